"""The fingerprint of a finding: what stays the same on other machines, with other seeds and in other configurations.

It is made of four words: the check, the target, the call that goes wrong, and what it takes to make it go wrong (a
fault, a limit, a rival, a power cut …). All four come from the shortest scenario, in which nothing is left that is not
needed. Left out is whatever a seed or a machine decides: arguments and numbers, which operation of the call was hit,
the journal mode, the search that came first, every path and every text of an error.

So two faults in one call that break one promise are one finding: a baseline that accepts the one accepts the other. A
power cut is not a fault, though: what a call was forgiven under one does not excuse it under the other.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from tornpage import faults
from tornpage.scenarios.model.scenario import (
    Arm,
    Call,
    ClockJump,
    Conditional,
    CrashAt,
    Damage,
    Interleave,
    Limit,
    Restart,
    Rival,
    Scenario,
    Step,
    Syscall,
)

_DIGITS: Final = 16
_CAUSES: Final[Mapping[type, str]] = {
    Limit: "limit",
    Rival: "rival",
    ClockJump: "clock",
    Syscall: "system call",
    Interleave: "two callers",
}


def fingerprint(check: str, scenario: Scenario) -> str:
    """Sixteen hexadecimal digits."""
    words = (check, scenario.target, call_of(scenario), *causes_of(scenario))
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:_DIGITS]


def in_words(scenario: Scenario) -> str:
    """The call and what it takes, such as "incr under fault"."""
    causes = causes_of(scenario)
    return call_of(scenario) + (f" under {' and '.join(causes)}" if causes else "")


def call_of(scenario: Scenario) -> str:
    """The name of the call that goes wrong: "put", "restart", or "heartbeat" where no step goes wrong."""
    index = decisive_step(scenario)
    step = None if index is None else scenario.steps[index]
    if isinstance(step, Call):
        return step.action.name
    if isinstance(step, Interleave):
        return step.names
    return "restart" if isinstance(step, Restart) else "heartbeat"


def decisive_step(scenario: Scenario) -> int | None:
    """The index of the step that goes wrong: the first call after the last thing that is wrong with the world.

    Without such a thing it is the last call, and where the scenario ends in a crash the last one before it: a crash
    undoes what was called before. None where a scenario has neither a call nor a restart.
    """
    steps = scenario.steps
    crashes = [index for index, step in enumerate(steps) if isinstance(step, CrashAt | Damage)]
    last = crashes[-1] if crashes else len(steps)
    conditions = [index for index, step in enumerate(steps) if isinstance(step, Conditional | ClockJump)]
    first = conditions[-1] + 1 if conditions and not crashes else last
    following = [index for index in range(first, last) if isinstance(steps[index], Call | Restart | Interleave)]
    calls = [index for index in range(last) if isinstance(steps[index], Call | Interleave)]
    restarts = [index for index in range(last) if isinstance(steps[index], Restart)]
    return next(iter((*following, *reversed(calls), *reversed(restarts))), None)


def causes_of(scenario: Scenario) -> tuple[str, ...]:
    """Each kind of thing that the scenario needs to go wrong, once, sorted; none where it fails by itself."""
    return tuple(sorted({cause for step in scenario.steps if (cause := _cause(step))}))


def _cause(step: Step) -> str:
    if isinstance(step, Arm):
        kills = any(fault.effect == faults.KILL for fault in faults.FaultPlan.parse(step.plan).faults)
        return "kill" if kills else "fault"
    if isinstance(step, CrashAt):
        return "power cut" if step.power else "crash"
    if isinstance(step, Damage):
        return "damage"
    return _CAUSES.get(type(step), "")
