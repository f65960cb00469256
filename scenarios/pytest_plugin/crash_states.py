"""The fixture ``crash_states``: a test gets each disk state that a crash during some work could have left.

The work is recorded once (`faults.record`), with SQLite's clock and randomness fixed, so that the disks have the same
numbers every time. Work that is a generator acknowledges something by each ``yield``. The disk of each crash (as
enumerated by `faults.crash.states`) is placed where the work was done, to be opened and changed freely; equal disks
with the same acknowledgements are passed once.

Not covered: faults during the work, and crashes of the test's own use of a disk.
"""

import contextlib
import inspect
import os
import random
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tornpage import faults
from tornpage.faults.crash.names import never_synced
from tornpage.faults.files import Replica, syncing_libraries
from tornpage.faults.vfs import shared_files
from tornpage.faults.vfs.operation_log import Note
from tornpage.scenarios.execution.crash.recording import ways_to_sync
from tornpage.scenarios.execution.snapshots import Holder, held_open, place

MODELS: Final = ("power", "process")
# So many lost operations are named.
_MOST_LOST: Final = 5


@dataclass(frozen=True, slots=True)
class Disk:
    """A directory that a crash has left, and the acknowledgements up to then.

    `acknowledged` are the values that the work had yielded, `pending` the one that it would have yielded next (None:
    the work was at its end), `crash` describes the crash, `number` counts from 1.
    """

    directory: Path
    number: int
    crash: str
    acknowledged: tuple[Any, ...]
    pending: Any

    def __fspath__(self) -> str:
        return os.fspath(self.directory)

    def __truediv__(self, name: str) -> Path:
        return self.directory / name


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The files before the work, the operations of the work, and its yielded values by number of operations."""

    base: dict[str, bytes]
    operations: list[faults.Operation]
    yielded: list[tuple[int, Any]]
    notes: list[Note]
    libraries: list[str]


class CrashDisks:
    """The object that the fixture passes to a test; call it once or more."""

    def __init__(self, item: pytest.Item, only: int | None) -> None:
        self._item = item
        self._only = only
        self._called = self._failed = False
        self._handed_out = 0
        self._section: tuple[str, str, str] | None = None

    def __call__(
        self,
        work: Callable[[Path], Any],
        directory: str | os.PathLike[str],
        *,
        model: str = "power",
        device: faults.Device | None = None,
        most: int | None = None,
        seed: int = 0,
    ) -> Iterator[Disk]:
        """The disk states that a crash during ``work(directory)`` could have left, one after the other.

        `model`: ``power`` (unsynced writes may be lost or torn) or ``process`` (all writes stay). `device`: what can
        tear. `most`: a sample of so many disks, by the `seed`. An error of the work is raised unchanged.
        """
        self._called = self._failed = True
        if model not in MODELS:
            raise ValueError(f"crash_states: no model {model!r}; there are: {', '.join(MODELS)}")
        if most is not None and most < 1:
            raise ValueError(f"crash_states: most is a whole number from 1 on, not {most!r}")
        home = Path(os.path.realpath(directory))
        home.mkdir(parents=True, exist_ok=True)
        recorded = _record(work, home, seed)
        states = _different(recorded, model, device, seed)
        self._failed = False
        chosen = range(len(states))
        if most is not None and most < len(states):
            chosen_ones = random.Random(seed).sample(chosen, most)  # noqa: S311 - the same sample every time
            return self._hand_out(recorded, [(index, states[index]) for index in sorted(chosen_ones)], home)
        return self._hand_out(recorded, list(enumerate(states)), home)

    def _hand_out(
        self, recorded: _Recorded, states: list[tuple[int, tuple[faults.State, int]]], home: Path
    ) -> Iterator[Disk]:
        # A path is part of what a store writes, so a disk is placed where the work was done; unless the work has left
        # files open there.
        elsewhere = home.with_name(f"{home.name}-after-a-crash") if held_open(home) else None
        for index, (state, yielded) in states:
            if self._only is not None and index + 1 != self._only:
                continue
            directory = home if elsewhere is None else elsewhere / str(index + 1)
            directory.mkdir(parents=True, exist_ok=True)
            place(dict(state.files), directory)
            values = [value for _, value in recorded.yielded]
            disk = Disk(
                directory,
                index + 1,
                str(state.crash),
                tuple(values[:yielded]),
                values[yielded] if yielded < len(values) else None,
            )
            self._handed_out += 1
            self._say(disk, ways_to_sync(state.crash, recorded.notes, recorded.libraries), _lost(recorded, state.crash))
            yield disk
            # The disk at which the test stops is left in place for inspection.
            shutil.rmtree(directory, ignore_errors=True)
        home.mkdir(exist_ok=True)
        self._say(None)

    def _say(self, disk: Disk | None, doubts: Sequence[str] = (), lost: Sequence[str] = ()) -> None:
        """Have the report of a failure say which disk it was, and which operations it has `lost`."""
        sections: list[tuple[str, str, str]] = getattr(self._item, "_report_sections", [])
        if self._section in sections:
            sections.remove(self._section)
        if disk is None:
            return
        text = (
            f"disk {disk.number}: {disk.crash}; acknowledged: {', '.join(map(repr, disk.acknowledged)) or 'nothing'}; "
            f"pending: {disk.pending!r}\n"
            + "".join(f"{one}\n" for one in lost)
            + f"{disk.directory}\n"
            + (f"NOT KNOWN to be possible: {doubts[-1]}, and what is synced so is not seen\n" if doubts else "")
            + f"    pytest {shlex.quote(self._item.nodeid)} --tornpage-disk {disk.number}\n"
        )
        self._section = ("call", "crash", text)
        sections.append(self._section)

    def end(self) -> None:
        """The test is over; fails it if it was handed nothing."""
        self._item.user_properties.append(("tornpage_disks", self._handed_out))
        if self._failed or self._handed_out:
            return
        if not self._called:
            pytest.fail("crash_states was requested and never called: no disk was checked", pytrace=False)
        if self._only is not None:
            pytest.fail(f"crash_states has no disk number {self._only}", pytrace=False)
        pytest.fail("crash_states passed no disk: the test did not iterate over it", pytrace=False)


def _lost(recorded: _Recorded, crash: faults.Crash) -> list[str]:
    """The operations that a crash has lost or torn, in words: the last of them."""
    torn = [crash.torn[0]] if crash.torn else []
    indexes = sorted({*crash.lost, *torn, *(index for index, _, _ in crash.holes)})
    before = ["..."] if len(indexes) > _MOST_LOST else []
    return [*before, *(f"operation {index + 1}: {recorded.operations[index]}" for index in indexes[-_MOST_LOST:])]


def _record(work: Callable[[Path], Any], home: Path, seed: int) -> _Recorded:
    holder = Holder()
    base = holder.copy(home)
    holder.release()
    yielded: list[tuple[int, Any]] = []
    with contextlib.ExitStack() as stack:
        shim = stack.enter_context(faults.install())
        stack.enter_context(shim.deterministic(seed))
        tape = stack.enter_context(faults.record(home))
        shared = stack.enter_context(shared_files.shared())
        replica = Replica(base)
        made = work(home)
        if inspect.iscoroutine(made) or inspect.isasyncgen(made):
            if inspect.iscoroutine(made):
                made.close()
            pytest.fail("crash_states: the work is asynchronous; pass a function that calls asyncio.run", pytrace=False)
        if inspect.isgenerator(made):
            for value in made:
                _require_faithful(replica, tape, holder.copy(home), f"when it yielded {value!r}")
                yielded.append((len(tape), value))
        elif made is not None:
            yielded.append((len(tape), made))
        _require_faithful(replica, tape, holder.copy(home), "at the end of the work")
        holder.release()
    if shared:
        pytest.fail(f"crash_states can't judge this work: {shared[0]}", pytrace=False)
    if not tape.operations:
        pytest.fail(f"crash_states: the work changed no file below {home}, so there is no crash to try", pytrace=False)
    return _Recorded(base, tape.operations, yielded, tape.notes, syncing_libraries())


def _require_faithful(replica: Replica, tape: faults.Tape, there: Mapping[str, bytes], when: str) -> None:
    """Require that the files match the recording: otherwise no disk is right."""
    replica.follow(tape.operations)
    for name in replica.different(there):
        ways = "; ".join(dict.fromkeys(note.way for note in tape.notes)) or "by C code, or another process"
        pytest.fail(
            f"crash_states: {when}, {name} had been changed in a way that the recorder does not see ({ways}), so no "
            "disk can be built from its tape",
            pytrace=False,
        )


def _different(
    recorded: _Recorded, model: str, device: faults.Device | None, seed: int
) -> list[tuple[faults.State, int]]:
    """Each state once, with the number of values yielded by then."""
    # As in the crash search: a directory created before the first acknowledgement belongs to the deployment.
    first = recorded.yielded[0][0] if recorded.yielded else len(recorded.operations)
    deployed = never_synced(recorded.operations[:first])
    states = faults.CrashStates(recorded.base, recorded.operations, device, seed, deployed=deployed)
    seen = set()
    different = []
    for position in range(len(recorded.operations) + 1):
        yielded = sum(place <= position for place, _ in recorded.yielded)
        for state in states.power(position) if model == "power" else (states.process(position),):
            if (state.identity, yielded) not in seen:
                seen.add((state.identity, yielded))
                different.append((state, yielded))
    return different
