"""Steps that were played and recorded, and who keeps the recording of a whole workload.

All parts of a search in one configuration ask for crashes of the same workload. A process plays it once, whole, for all
the parts that it does: what comes after a part's own calls can change nothing of the states before.
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
    """What is played and recorded: `steps`, after a `prelude` that leaves `files` and `view`.

    Of its crash states, one in `share` of what the profile wants is tried; where it is the workload, those of a `part`.
    `device` is another one than the search's own.
    """

    steps: tuple[Step, ...]
    prelude: tuple[Step, ...] = ()
    files: Files = {}
    view: View = {}
    share: int = 1
    part: Part | None = None
    device: faults.Device | None = None


class Played(msgspec.Struct, frozen=True):
    """A recording, and how far it goes: up to the step of that number (from 1), where something failed, if anything."""

    recording: Recording
    counts: Counter[str]
    steps: tuple[Step, ...]
    failed: Violation | TargetError | None = None

    def failure_of(self, steps: int) -> Violation | TargetError | None:
        """What has failed up to the end of so many steps; their recording is whole where nothing has."""
        return self.failed if len(self.steps) <= steps else None


def play_tape(tape: Tape, target: Target, configuration: Configuration, directory: Path, *, compares: bool) -> Played:
    """Play the steps and record them; with `compares` the recording is held against the files after each call."""
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
    failed: Violation | TargetError | None = None
    try:
        with executor:
            if tape.prelude:
                executor.do(Restart())
            for step in tape.steps:
                executor.do(step)
            executor.clear()
            executor.close_session()
            executor.recording.require_faithful()
    except (Violation, TargetError) as error:
        failed = error
    return Played(executor.recording, executor.counts, tuple(executor.steps), failed)


class Workloads:
    """Keeps the workload that was played last, for as long as somebody's scope is open."""

    def __init__(self) -> None:
        self._kept: tuple[object, Played] | None = None
        self._scopes = 0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is played inside this scope; scopes nest."""
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
        """The workload as it was played in this directory, or as it is played now."""
        key = type(target), target.name, configuration, directory, tape.steps, compares
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        self._kept = None
        played = play_tape(tape, target, configuration, directory, compares=compares)
        if self._scopes:
            self._kept = key, played
        return played
