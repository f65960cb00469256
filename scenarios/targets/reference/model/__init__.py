"""The reference ledger as an executable specification: pure functions over plain values.

A second source for what the ledger promises: written from its specification (the sections are cited as §2, §5 …), with
no SQLite, no file, and nothing of the ledger's code. `step` says what one call comes to: the state, the answer, the
refusal, what observers hear and what the log says. `looks` says what every look at a state answers.

It decides where the specification is silent; ``docs/ledger.md`` lists these decisions. Not modelled: texts for people
(only that there is one, and what it names), and what each module says of itself.
"""

from tornpage.scenarios.targets.reference.model.command.commands import exit_code, printed
from tornpage.scenarios.targets.reference.model.command.shown import lines, on_terminal, warnings
from tornpage.scenarios.targets.reference.model.disk.rows import is_readable
from tornpage.scenarios.targets.reference.model.observers import observed
from tornpage.scenarios.targets.reference.model.state import Outcome, State
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
]
