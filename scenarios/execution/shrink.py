"""Making a failing scenario short: steps and faults that aren't needed are dropped, and what is left is made simpler.

In this order, until nothing more can be done; each change stands if the same check still fails:

- runs of steps are dropped: half the scenario, then a quarter, down to single steps;
- a fault is armed only just before the last call, with a smaller ordinal;
- of several faults in one plan each is dropped; one that goes on (``@1..``) happens once (``@1``);
- a call in a batch, or in another process, is made by itself; an argument is left out.

So whatever faults a shortest scenario still has are needed, each of them: `what_suffices` says it in words.

Not covered: another call in the place of one that is needed, and crashes of their own kind (the crash search has its
own end).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Call, Conditional, Scenario
from tornpage.scenarios.model.target import Action, Target

Play = Callable[[Scenario, Target, Path], tuple[Violation | None, Counter[str]]]


def minimise(
    scenario: Scenario, violation: Violation, target: Target, directory: Path, play: Play = play
) -> tuple[Scenario, Violation]:
    """The shortest scenario in which the same check still fails, and its violation; `play` plays a scenario."""

    def still_fails(shorter: Scenario) -> Violation | None:
        try:
            found = play(shorter, target, directory)[0]
        except RuntimeError:
            # Without a step that was dropped, a later one makes no sense even without a fault.
            return None
        return found if found is not None and found.code == violation.code else None

    while True:
        scenario, violation = _drop_steps(scenario, violation, still_fails)
        simpler = _first_of(_simpler(scenario), still_fails)
        if simpler is None:
            return scenario, violation
        scenario, violation = simpler


def what_suffices(scenario: Scenario) -> str:
    """Which faults a scenario needs, in words; "" where it has none. For one that `minimise` has made."""
    needed = [
        str(fault)
        for step in scenario.steps
        for fault in (faults.FaultPlan.parse(step.plan).faults if isinstance(step, Arm) else ())
    ] + [str(step) for step in scenario.steps if isinstance(step, Conditional) and not isinstance(step, Arm)]
    if not needed:
        return ""
    if len(needed) > 1:
        return f"it takes {' and '.join(needed)}: without any one of them the check holds"
    return f"{needed[0]} alone suffices"


Fails = Callable[[Scenario], Violation | None]


def _first_of(scenarios: Iterator[Scenario], still_fails: Fails) -> tuple[Scenario, Violation] | None:
    for scenario in scenarios:
        found = still_fails(scenario)
        if found is not None:
            return scenario, found
    return None


def _drop_steps(scenario: Scenario, violation: Violation, still_fails: Fails) -> tuple[Scenario, Violation]:
    """Drop every run of steps without which it still fails."""
    size = max(len(scenario.steps) // 2, 1)
    while size:
        dropped = False
        for start in range(len(scenario.steps) - size, -1, -1):
            if start + size > len(scenario.steps):
                continue
            shorter = _with(scenario, start, size)
            found = still_fails(shorter)
            if found is not None:
                scenario, violation, dropped = shorter, found, True
        if not dropped:
            size //= 2
    return scenario, violation


def _with(scenario: Scenario, start: int, size: int, *steps: Any) -> Scenario:
    """The scenario with other steps in the place of some."""
    return msgspec.structs.replace(scenario, steps=(*scenario.steps[:start], *steps, *scenario.steps[start + size :]))


def _simpler(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios that a reader finds simpler, none of them longer; each is simpler than the one before it was."""
    yield from _armed_late(scenario)
    for index, step in enumerate(scenario.steps):
        if isinstance(step, Arm):
            for plan in _fewer_faults(faults.FaultPlan.parse(step.plan)):
                yield _with(scenario, index, 1, Arm(str(plan), step.depth))
        elif isinstance(step, Call):
            for action in _smaller(step.action):
                yield _with(scenario, index, 1, Call(action))


def _armed_late(scenario: Scenario) -> Iterator[Scenario]:
    """A fault that is armed only just before the last call, with a smaller ordinal: it counts no earlier calls."""
    last = max((index for index, step in enumerate(scenario.steps) if isinstance(step, Call)), default=0)
    for index, step in enumerate(scenario.steps[: max(last - 1, 0)]):
        if not isinstance(step, Arm):
            continue
        others = scenario.steps[:index] + scenario.steps[index + 1 : last]
        for plan in _earlier(faults.FaultPlan.parse(step.plan)):
            yield msgspec.structs.replace(scenario, steps=(*others, Arm(str(plan), step.depth), *scenario.steps[last:]))


def _earlier(plan: faults.FaultPlan) -> Iterator[faults.FaultPlan]:
    """A plan of one fault with each ordinal up to its own."""
    if len(plan.faults) == 1:
        fault = plan.faults[0]
        for ordinal in range(1, fault.when.first + 1):
            yield faults.FaultPlan((fault.at(faults.When(ordinal, None if fault.when.sticky else ordinal)),))


def _fewer_faults(plan: faults.FaultPlan) -> Iterator[faults.FaultPlan]:
    """A plan without one of its faults, or with one that happens only once."""
    for index, fault in enumerate(plan.faults):
        before, after = plan.faults[:index], plan.faults[index + 1 :]
        if before or after:
            yield faults.FaultPlan((*before, *after))
        once = faults.When(fault.when.first, fault.when.first)
        if fault.when != once:
            yield faults.FaultPlan((*before, fault.at(once), *after))


def _smaller(action: Action) -> Iterator[Action]:
    """An action with less in it: a call of those that it consists of, or without one of its arguments."""
    for value in action.args.values():
        yield from (_as_action(one) for one in (value if isinstance(value, list) else [value]) if _is_action(one))
    for name, value in action.args.items():
        if isinstance(value, list) and len(value) > 1 and all(map(_is_action, value)):
            for index in range(len(value)):
                yield Action(action.name, {**action.args, name: value[:index] + value[index + 1 :]})
        elif _is_action(value):
            for inner in _smaller(_as_action(value)):
                yield Action(action.name, {**action.args, name: {"name": inner.name, "args": inner.args}})
        yield Action(action.name, {key: one for key, one in action.args.items() if key != name})


def _is_action(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"name", "args"}


def _as_action(value: Mapping[str, Any]) -> Action:
    return Action(value["name"], dict(value["args"]))
