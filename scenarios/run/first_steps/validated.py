"""Whether what a store holds or returns, and its rows do not, may be older than they are: then no view shows it.

A cache may be filled by reading, and be valid for a version that each read looks at first. What it holds between the
calls is then no state of the store. Nor is a copy that a call of its own makes on disk, such as an export.
"""

import contextlib
from collections.abc import Collection
from pathlib import Path

from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Configuration, Target, TargetError


def is_put_right_when_read(target: Target, configuration: Configuration, home: Path, reads: Collection[str]) -> bool:
    """Whether the view, where it first differs from the rows, equals them once the calls named in `reads` are made."""
    place({}, home)
    trial = Trial(target, configuration, home, {})
    with contextlib.suppress(Violation, TargetError), trial:
        trial.at_step(0)
        trial.open()
        for step, action in enumerate(target.workload(), start=1):
            trial.at_step(step)
            trial.ask(action)
            if trial.live_view() != trial.fresh_view(integrity=False):
                for one in target.workload():
                    if one.name in reads:
                        trial.ask(one)
                return trial.live_view() == trial.fresh_view(integrity=False)
    return False


def is_a_copy(target: Target, configuration: Configuration, home: Path) -> bool:
    """Whether a new session, which has nothing in memory, shows less than the rows once the calls are made again."""
    place({}, home)
    with contextlib.suppress(Violation, TargetError):
        for step, action in enumerate((*target.workload(), *target.workload()), start=1):
            with Trial(target, configuration, home, {}) as trial:
                trial.at_step(step)
                trial.open()
                if trial.live_view() != trial.fresh_view(integrity=False):
                    return True
                trial.ask(action)
    return False
