"""Scripts of a target, each played once without any fault: for defects that need neither a fault nor luck.

Each begins with an empty store. After each call everything is checked, except SQLite's own check of the file, which
runs where faults are. An error with nothing armed is a finding: the author of a script knows what each call must do.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Call, Scenario
from tornpage.scenarios.model.target import Action, Configuration, Target
from tornpage.scenarios.model.work import Part

KIND: Final = "script"
_SCRIPTS_A_PART: Final = 8


def parts_of_scripts(target: Target, configuration: Configuration) -> Iterator[Part]:
    """The scripts of a target, some at a time."""
    many = len(target.scripts)
    for first in range(0, many, _SCRIPTS_A_PART):
        yield Part(configuration, first, min(first + _SCRIPTS_A_PART, many), KIND)


def play_script(
    target: Target, configuration: Configuration, script: tuple[Action, ...], home: Path
) -> tuple[int, tuple[Violation, Scenario] | None]:
    """Play a script; return the number of calls, and the violation, if any, with the calls that show it."""
    place({}, home)
    step = 0
    try:
        with Trial(target, configuration, home, {}) as trial:
            trial.at_step(0)
            trial.open()
            before = trial.fresh_view()
            for step, action in enumerate(script, start=1):
                trial.at_step(step)
                answer = trial.call(action, {})
                if answer.kind == "raised":
                    raise fails_without_fault(action, answer)
                trial.look_after_call(action, before, answer, integrity=False)
                before = trial.oracle.settled
    except Violation as violation:  # also one of the end, where the session is closed
        calls = (Call(one, number) for number, one in enumerate(script[:step], start=1))
        return step, (violation, Scenario(target.name, configuration, tuple(calls)))
    return len(script), None


def fails_without_fault(action: Action, answer: object) -> Violation:
    """The violation of a call that fails although nothing is armed, if its result is specified."""
    return Violation("as-specified", f"no fault is armed, and {action} {answer}")
