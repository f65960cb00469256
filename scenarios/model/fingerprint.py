"""The fingerprint of a finding: the part that is the same on every machine, with every seed, in every configuration.

It has four parts: the check, the target, the call that fails, and the causes (a fault, a limit, a rival, a power cut
…). All four come from the shrunk scenario. Left out is everything that a seed or a machine decides: arguments and
numbers, which operation of the call was hit, the journal mode, the search that found it first, every path and every
error text.

So two faults in one call that break one check are one finding: a baseline that accepts one accepts the other. A power
cut is a different cause from a fault: a finding accepted under one is not accepted under the other.
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
    """The call and its causes, such as "incr under fault"."""
    causes = causes_of(scenario)
    return call_of(scenario) + (f" under {' and '.join(causes)}" if causes else "")


def call_of(scenario: Scenario) -> str:
    """The name of the call that fails: "put", "restart", or "heartbeat" if no step of the scenario fails."""
    index = decisive_step(scenario)
    step = None if index is None else scenario.steps[index]
    if isinstance(step, Call):
        return step.action.name
    if isinstance(step, Interleave):
        return step.names
    return "restart" if isinstance(step, Restart | CrashAt) else "heartbeat"


def decisive_step(scenario: Scenario) -> int | None:
    """The index of the step that fails: the first call after the last fault or condition.

    Without one it is the last call; in a scenario that ends in a crash, the last call before the crash, since a crash
    undoes earlier calls; one that a condition follows is not the end. Where only the opening after that crash can meet
    the last condition, it is the crash. None where there is neither a call nor a restart.
    """
    steps = scenario.steps
    conditions = [index for index, step in enumerate(steps) if isinstance(step, Conditional | ClockJump)]
    crashes = [
        index
        for index, step in enumerate(steps)
        if isinstance(step, CrashAt | Damage) and not (conditions and index < conditions[-1])
    ]
    last = crashes[-1] if crashes else len(steps)
    first = conditions[-1] + 1 if conditions and not crashes else last
    if crashes and conditions and _is_met_after(steps, conditions[-1], last):
        return last
    following = _start_or_call(steps, range(first, last))
    calls = [index for index in range(last) if isinstance(steps[index], Call | Interleave)]
    restarts = [index for index in range(last) if isinstance(steps[index], Restart)]
    return next(iter((*following, *reversed(calls), *reversed(restarts))), None)


def _is_met_after(steps: tuple[Step, ...], condition: int, crash: int) -> bool:
    """Whether only the opening after a crash can meet a condition."""
    if not isinstance(steps[condition], Conditional) or not isinstance(steps[crash], CrashAt):
        return False
    ends = getattr(steps[crash], "ends", None) is True
    return not _start_or_call(steps, range(condition, crash if ends else len(steps)))


def _start_or_call(steps: tuple[Step, ...], among: range) -> list[int]:
    return [index for index in among if isinstance(steps[index], Call | Restart | Interleave)]


def causes_of(scenario: Scenario) -> tuple[str, ...]:
    """Each kind of cause that the scenario needs in order to fail, once, sorted; empty where it fails without any."""
    return tuple(sorted({cause for step in scenario.steps if (cause := _cause(step))}))


def is_cancelled(scenario: Scenario) -> bool:
    """Whether a call of it is cancelled at one of its awaits."""
    return any(isinstance(step, Limit) and step.kind == "awaits" for step in scenario.steps)


def _cause(step: Step) -> str:
    if isinstance(step, Arm):
        kills = any(fault.effect == faults.KILL for fault in faults.FaultPlan.parse(step.plan).faults)
        return "kill" if kills else "fault"
    if isinstance(step, CrashAt):
        return "power cut" if step.power else "crash"
    if isinstance(step, Damage):
        return "damage"
    return _CAUSES.get(type(step), "")
