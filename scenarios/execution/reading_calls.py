"""The *reading calls* of a workload: those that change nothing and return something."""

from pathlib import Path
from typing import Final

from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import NOT_COMPARED
from tornpage.scenarios.model.target import Action, Configuration, Target

# Of a long workload so many distinct reading calls are made.
_MOST_READS: Final = 12


def reading_calls(target: Target, configuration: Configuration, home: Path) -> tuple[Action, ...]:
    """The workload's calls that return something, and that change nothing, like all others of their name."""
    place({}, home)
    reads: list[Action] = []
    changing: set[str] = set()
    with Trial(target, configuration, home, {}) as dry:
        dry.at_step(0)
        dry.open()
        for step, action in enumerate(target.workload(), start=1):
            before = dry.live_view()
            dry.at_step(step)
            answer = dry.call(action, before)
            if dry.live_view() != before:
                changing.add(action.name)
            elif action not in reads and answer.kind == "done" and answer.value not in (None, NOT_COMPARED):
                reads.append(action)
    return tuple(one for one in reads if one.name not in changing)[:_MOST_READS]
