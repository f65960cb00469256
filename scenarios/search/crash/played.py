"""Played and recorded steps, and a cache of the recording of a whole workload.

All parts of a search in one configuration need crashes of the same workload. A process plays it once, completely, for
all its parts: calls after a part's own can't change the earlier states.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.snapshots import Files
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Restart, Step
from tornpage.scenarios.model.target import Configuration, Target, TargetError, View
from tornpage.scenarios.model.work import Part


class Tape(msgspec.Struct, frozen=True):
    """A recording to make: `steps`, after a `prelude` that leaves `files` and `view`.

    One in `share` of the crash states that the profile asks for is tried; for the workload, those of a `part`. `device`
    replaces the search's own. In a forecast it `stands_for` so many tapes of its kind.
    """

    steps: tuple[Step, ...]
    prelude: tuple[Step, ...] = ()
    files: Files = {}
    view: View = {}
    share: int = 1
    part: Part | None = None
    device: faults.Device | None = None
    stands_for: float = 1
    # What a power cut of the prelude has taken away, and a later crash may bring back: see `History.may_return`.
    lost: tuple[View, ...] = ()

    @property
    def repeats(self) -> bool:
        """Whether its last step makes an earlier call again."""
        return bool(self.prelude) and self.steps[-1] in self.steps[:-1]


class Played(msgspec.Struct, frozen=True):
    """A recording, and its last complete step (from 1); and the failure that ended it, if any."""

    recording: Recording
    counts: Counter[str]
    steps: tuple[Step, ...]
    failed: Violation | TargetError | None = None

    def failure_of(self, steps: int) -> Violation | TargetError | None:
        """The failure up to the end of so many steps; without one their recording is complete."""
        return self.failed if len(self.steps) <= steps else None


def play_tape(tape: Tape, target: Target, configuration: Configuration, directory: Path, *, compares: bool) -> Played:
    """Play the steps and record them; with `compares` the recording is compared with the files after each call."""
    executor = Executor(
        target,
        configuration,
        directory,
        record=True,
        compares=compares,
        files=tape.files,
        view=tape.view,
        steps_before=max(len(tape.prelude) - 1, 0),
    )
    assert executor.recording is not None  # noqa: S101 - asked for above
    executor.recording.history.lost = tape.lost
    failed: Violation | TargetError | None = None
    try:
        with executor:
            if tape.prelude:
                executor.do(Restart())
            for step in tape.steps:
                executor.do(step)
            executor.clear()
            executor.real.hidden_errors.require_none()
            executor.close_session()
            executor.recording.require_faithful()
    except (Violation, TargetError) as error:
        failed = error
    return Played(executor.recording, executor.counts, tuple(executor.steps), failed)


class Workloads:
    """Caches the workload that was played last, while a `kept` scope is open."""

    def __init__(self) -> None:
        self._kept: tuple[object, Played] | None = None
        self._scopes = 0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the cached workload inside this scope; scopes nest."""
        self._scopes += 1
        try:
            yield
        finally:
            self._scopes -= 1
            if not self._scopes:
                self._kept = None

    def of(
        self, tape: Tape, target: Target, configuration: Configuration, directory: Path, *, compares: bool
    ) -> Played:
        """The recording of the workload in this directory, cached or played now."""
        key = type(target), target.name, configuration, directory, tape.steps, compares
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        self._kept = None
        played = play_tape(tape, target, configuration, directory, compares=compares)
        if self._scopes:
            self._kept = key, played
        return played
