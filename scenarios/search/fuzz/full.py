"""Whether a store is full: it refuses the heartbeat after some calls, and would do so without any fault, too.

A store with a limit, such as a bounded queue or a quota, says so by an error of its own, or does nothing. What a fault
or a crash has left, such as a mark that it is busy, may look the same. So the same calls are made once more without any
fault, and with clean restarts in the place of crashes: only a store that refuses the heartbeat then, too, is full.
"""

from pathlib import Path
from typing import Final

from tornpage.scenarios.execution.crash.reader import REFUSED_AFTER_A_CRASH
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.trial import DID_NOTHING, NEXT_FAILS
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.refusals import says_no
from tornpage.scenarios.model.scenario import Clear, Conditional, CrashAt, Damage, Restart, Scenario
from tornpage.scenarios.model.target import Target

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
    executor = Executor(target, scenario.configuration, directory)
    try:
        with executor:
            for step in scenario.steps:
                if isinstance(step, Restart | CrashAt | Damage):
                    executor.do(Restart())
                elif not isinstance(step, Conditional | Clear):
                    executor.do(step)
            executor.real.heartbeat()
    except Violation as violation:
        return may_be_full(violation)
    return False
