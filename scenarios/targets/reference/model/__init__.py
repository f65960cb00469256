"""The reference ledger as an executable specification: pure functions over plain values.

An independent source for the ledger's promises: written from its specification (the sections are cited as §2, §5 …),
without SQLite, files, or the ledger's code. `step` gives the result of one call: the state, the answer, the refusal,
the notifications and the log lines. `looks` gives the answer of every query on a state.

It decides cases that the specification leaves open; ``docs/ledger.md`` lists these decisions. Not modelled: texts for
people (only that there is one, and what it names), and each module's own messages.
"""

from tornpage.scenarios.targets.reference.model.command.commands import exit_code, printed
from tornpage.scenarios.targets.reference.model.command.shown import lines, on_terminal, warnings
from tornpage.scenarios.targets.reference.model.disk.rows import is_readable
from tornpage.scenarios.targets.reference.model.observers import observed
from tornpage.scenarios.targets.reference.model.state import Outcome, State, without_readable
from tornpage.scenarios.targets.reference.model.step import ACTIONS, OPEN_TO_THE_STORE, step
from tornpage.scenarios.targets.reference.model.tasks import in_order
from tornpage.scenarios.targets.reference.model.values import Refusal
from tornpage.scenarios.targets.reference.model.world import World

__all__ = [
    "ACTIONS",
    "OPEN_TO_THE_STORE",
    "Outcome",
    "Refusal",
    "State",
    "World",
    "exit_code",
    "in_order",
    "is_readable",
    "lines",
    "observed",
    "on_terminal",
    "printed",
    "step",
    "warnings",
    "without_readable",
]
