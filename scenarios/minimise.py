"""Making a failing story short: steps and faults that aren't needed are dropped, and what is left is made simpler.

In this order, until nothing more can be done; each change stands if the same check still fails:

- runs of steps are dropped: half the story, then a quarter, down to single steps;
- a fault is armed only just before the last call, with a smaller ordinal;
- of several faults in one plan each is dropped; one that goes on (``@1..``) happens once (``@1``);
- a call in a batch, or in another process, is made by itself; an argument is left out.

So whatever faults a shortest story still has are needed, each of them: `what_suffices` says it in words.

Not covered: another call in the place of one that is needed, and crashes of their own kind (the crash search has its
own end).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

import faults
from scenarios.checks import Violation
from scenarios.player import play
from scenarios.story import Arm, Call, Conditional, Story
from scenarios.target import Action, Target

Play = Callable[[Story, Target, Path], tuple[Violation | None, Counter[str]]]


def minimise(
    story: Story, violation: Violation, target: Target, directory: Path, play: Play = play
) -> tuple[Story, Violation]:
    """The shortest story in which the same check still fails, and its violation; `play` is how a story is played."""

    def still_fails(shorter: Story) -> Violation | None:
        try:
            found = play(shorter, target, directory)[0]
        except RuntimeError:
            # Without a step that was dropped, a later one makes no sense even without a fault.
            return None
        return found if found is not None and found.code == violation.code else None

    while True:
        story, violation = _drop_steps(story, violation, still_fails)
        simpler = _first_of(_simpler(story), still_fails)
        if simpler is None:
            return story, violation
        story, violation = simpler


def what_suffices(story: Story) -> str:
    """Which faults a story needs, in words; "" where it has none. For one that `minimise` has made."""
    needed = [
        str(fault)
        for step in story.steps
        for fault in (faults.FaultPlan.parse(step.plan).faults if isinstance(step, Arm) else ())
    ] + [str(step) for step in story.steps if isinstance(step, Conditional) and not isinstance(step, Arm)]
    if not needed:
        return ""
    if len(needed) > 1:
        return f"it takes {' and '.join(needed)}: without any one of them the check holds"
    return f"{needed[0]} alone suffices"


Fails = Callable[[Story], Violation | None]


def _first_of(stories: Iterator[Story], still_fails: Fails) -> tuple[Story, Violation] | None:
    for story in stories:
        found = still_fails(story)
        if found is not None:
            return story, found
    return None


def _drop_steps(story: Story, violation: Violation, still_fails: Fails) -> tuple[Story, Violation]:
    """Drop every run of steps without which it still fails."""
    size = max(len(story.steps) // 2, 1)
    while size:
        dropped = False
        for start in range(len(story.steps) - size, -1, -1):
            if start + size > len(story.steps):
                continue
            shorter = _with(story, start, size)
            found = still_fails(shorter)
            if found is not None:
                story, violation, dropped = shorter, found, True
        if not dropped:
            size //= 2
    return story, violation


def _with(story: Story, start: int, size: int, *steps: Any) -> Story:
    """The story with other steps in the place of some."""
    return msgspec.structs.replace(story, steps=(*story.steps[:start], *steps, *story.steps[start + size :]))


def _simpler(story: Story) -> Iterator[Story]:
    """Stories that a reader finds simpler, none of them longer; each is simpler than the one before it was."""
    yield from _armed_late(story)
    for index, step in enumerate(story.steps):
        if isinstance(step, Arm):
            for plan in _fewer_faults(faults.FaultPlan.parse(step.plan)):
                yield _with(story, index, 1, Arm(str(plan), step.depth))
        elif isinstance(step, Call):
            for action in _smaller(step.action):
                yield _with(story, index, 1, Call(action))


def _armed_late(story: Story) -> Iterator[Story]:
    """A fault that is armed only just before the last call, with a smaller ordinal: it counts no earlier calls."""
    last = max((index for index, step in enumerate(story.steps) if isinstance(step, Call)), default=0)
    for index, step in enumerate(story.steps[: max(last - 1, 0)]):
        if not isinstance(step, Arm):
            continue
        others = story.steps[:index] + story.steps[index + 1 : last]
        for plan in _earlier(faults.FaultPlan.parse(step.plan)):
            yield msgspec.structs.replace(story, steps=(*others, Arm(str(plan), step.depth), *story.steps[last:]))


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
