"""Whether a store is full: it refuses the heartbeat after some calls, and would do so without any fault, too.

A store with a limit, such as a bounded queue or a quota, says so by an error of its own, or does nothing. What a fault
or a crash has left, such as a mark that it is busy, may look the same. So the same calls are made once more without any
fault, and with clean restarts in the place of crashes: only a store that refuses the heartbeat then, too, is full.

A call that was refused has changed nothing, and fills no store. If the heartbeat works where the refused calls are left
out, one of them has left the store in a state in which it works no longer, such as a session that was not rolled back.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tornpage.scenarios.execution.crash.reader import REFUSED_AFTER_A_CRASH
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.trial import DID_NOTHING, NEXT_FAILS
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.refusals import says_no
from tornpage.scenarios.model.scenario import Clear, Conditional, CrashAt, Damage, Restart, Scenario, Step
from tornpage.scenarios.model.target import Configuration, Target

NOTE: Final = (
    "after some calls the store refuses the heartbeat without any fault, too (it may be full): not judged there"
)


def may_be_full(violation: Violation) -> bool:
    """Whether the store may just have refused the heartbeat, by an error of its own or by doing nothing."""
    text = violation.message
    if text.startswith(NEXT_FAILS):
        return says_no(violation.__cause__)
    return text == DID_NOTHING or text.startswith(REFUSED_AFTER_A_CRASH)


def is_full_anyway(scenario: Scenario, target: Target, directory: Path) -> bool:
    """Whether the store refuses the heartbeat after the scenario's calls without any fault or crash, too."""
    plain = (Restart() if isinstance(one, Restart | CrashAt | Damage) else one for one in scenario.steps)
    steps = [one for one in plain if not isinstance(one, Conditional | Clear)]
    refuses, refused = _refuses(scenario.configuration, steps, target, directory)
    if not refuses or not refused:
        return refuses
    others = [one for number, one in enumerate(steps) if number not in refused]
    return _refuses(scenario.configuration, others, target, directory)[0]


def _refuses(
    configuration: Configuration, steps: Sequence[Step], target: Target, directory: Path
) -> tuple[bool, set[int]]:
    """Whether the store refuses the heartbeat after the steps, and the places of those that it has refused."""
    executor, refused = Executor(target, configuration, directory), set[int]()
    try:
        with executor:
            for number, step in enumerate(steps):
                before = _refusals(executor)
                executor.do(step)
                if _refusals(executor) > before:
                    refused.add(number)
            executor.real.heartbeat()
    except Violation as violation:
        return may_be_full(violation), refused
    return False, refused


def _refusals(executor: Executor) -> int:
    return sum(many for (_, kind, _), many in executor.answers.items() if kind == "refused")
