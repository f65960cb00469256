"""Making a failing story short: every step and every fault that isn't needed is dropped."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

import faults
from scenarios.checks import Violation
from scenarios.player import play
from scenarios.story import Arm, Call, Story
from scenarios.target import Target


def minimise(story: Story, violation: Violation, target: Target, directory: Path) -> tuple[Story, Violation]:
    """Drop every run of steps without which the same check still fails; the shortest story, and its violation.

    Runs of half the story, then of a quarter, down to single steps, until no run can go any more.
    """
    size = max(len(story.steps) // 2, 1)
    while size:
        dropped = False
        for start in range(len(story.steps) - size, -1, -1):
            if start + size > len(story.steps):
                continue
            steps = story.steps[:start] + story.steps[start + size :]
            shorter = msgspec.structs.replace(story, steps=steps)
            found = _violated_by(shorter, target, directory)
            if found is not None and found.code == violation.code:
                story, violation, dropped = shorter, found, True
        if not dropped:
            size //= 2
            if not size and (later := _arm_late(story, violation, target, directory)):
                # A fault that counted earlier calls, too, needs none of them now.
                story, violation = later
                size = 1
    return story, violation


def _arm_late(story: Story, violation: Violation, target: Target, directory: Path) -> tuple[Story, Violation] | None:
    """Arm a fault only just before the last call, with a smaller ordinal; None where nothing changes by it."""
    last = max((index for index, step in enumerate(story.steps) if isinstance(step, Call)), default=0)
    for index, step in enumerate(story.steps[: max(last - 1, 0)]):
        if not isinstance(step, Arm):
            continue
        others = story.steps[:index] + story.steps[index + 1 : last]
        for plan in _earlier(faults.FaultPlan.parse(step.plan)):
            steps = (*others, Arm(str(plan), step.depth), *story.steps[last:])
            shorter = msgspec.structs.replace(story, steps=steps)
            found = _violated_by(shorter, target, directory)
            if found is not None and found.code == violation.code:
                return shorter, found
    return None


def _earlier(plan: faults.FaultPlan) -> Iterator[faults.FaultPlan]:
    """A plan of one fault with each ordinal up to its own."""
    if len(plan.faults) == 1:
        fault = plan.faults[0]
        for ordinal in range(1, fault.when.first + 1):
            yield faults.FaultPlan((fault.at(faults.When(ordinal, None if fault.when.sticky else ordinal)),))


def _violated_by(story: Story, target: Target, directory: Path) -> Violation | None:
    try:
        return play(story, target, directory)[0]
    except RuntimeError:
        # Without a step that was dropped, a later one makes no sense even without a fault.
        return None
