"""Whether what a cache holds is compared with the file when the store reads, and may be old before that.

A cache may be filled by reading, and be valid for a version that each read looks at first. What it holds between the
calls is then no state of the store, and no view shows it.
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
