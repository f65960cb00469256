"""Crash states: every directory that a machine which stops could have left, from one tape.

Two kinds of crash at a position of the tape (after so many operations):

- *process*: the process died. All that it handed to the system stays; one state per position.
- *power*: the machine died. What was synced stays. Each change since then (a write, truncate, create, delete or
  rename) is kept or lost, on its own: nothing orders unsynced changes. A write may also be torn at a sector boundary.

The power states of a position are these: all kept, all lost, each single loss, each single tear, each loss of all that
came after one change, and seeded random subsets. Where more than `MOST_SINGLES` changes are unsynced, the singles are
taken from the newest and a seeded sample of the older ones. Equal directories are the same state.

A `Device` says what can tear. With powersafe overwrite, which SQLite assumes, a torn write damages nothing outside of
itself; without it the sector in which the write stopped is garbage as a whole.

The shared-memory file is no part of a state: SQLite rebuilds it. Directories are taken to be durable when they are
made.

Source: https://sqlite.org/atomiccommit.html (sections 2 and 9), https://sqlite.org/psow.html.
"""

import bisect
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tornpage.faults.crash.blocks import ChangedFile, Content
from tornpage.faults.vfs.operation_log import Operation

Files = Mapping[str, bytes]

MOST_SINGLES: Final = 48
_RANDOM_SUBSETS: Final = 4
_MOST_TEARS_A_WRITE: Final = 8


@dataclass(frozen=True, slots=True)
class Device:
    """What a disk promises: `sector_bytes`; whether a write leaves the rest of its sectors alone; aligned writes of up
    to `atomic_write_bytes` that are done whole or not at all."""

    sector_bytes: int = 512
    powersafe_overwrite: bool = True
    atomic_write_bytes: int = 0

    def __post_init__(self) -> None:
        if self.sector_bytes < 1 or self.atomic_write_bytes < 0:
            raise ValueError(f"a device needs sectors of at least one byte and no negative atomic write: {self}")

    def tears(self, write: Operation) -> list[int]:
        """The numbers of bytes of a write that may have reached the disk, if not all of them.

        None at all is one of them only without powersafe overwrite: the first sector was being written, and is lost
        with what had been in it before.
        """
        size, sector = len(write.data), self.sector_bytes
        if size <= self.atomic_write_bytes and write.offset % max(size, 1) == 0:
            return []
        cuts = [] if self.powersafe_overwrite or not size else [0]
        cuts += range(sector - write.offset % sector, size, sector)
        if len(cuts) <= _MOST_TEARS_A_WRITE:
            return cuts
        step = (len(cuts) - 1) / (_MOST_TEARS_A_WRITE - 1)
        return [cuts[round(index * step)] for index in range(_MOST_TEARS_A_WRITE)]


@dataclass(frozen=True, slots=True)
class Crash:
    """One crash: its position, which unsynced operations were lost (by their index on the tape), and which was torn.

    `torn` is (index, bytes that reached the disk). A process crash loses nothing.
    """

    position: int
    lost: tuple[int, ...] = ()
    torn: tuple[int, int] | None = None
    power: bool = True

    def __str__(self) -> str:
        if not self.power:
            return f"the process dies after operation {self.position}"
        lost = f", losing {_ranges(self.lost)}" if self.lost else ", losing nothing"
        torn = f", with {self.torn[1]} bytes of {self.torn[0] + 1}" if self.torn else ""
        return f"the power fails after operation {self.position}{lost}{torn}"


@dataclass(frozen=True, slots=True)
class State:
    """A crash and the directory that it leaves; `identity` is equal where the directories are."""

    crash: Crash
    files: Files
    identity: tuple[tuple[str, bytes], ...]


class _Directory(Mapping[str, bytes]):
    """Files by name; their bytes are put together when somebody asks for them, since most states are met before."""

    def __init__(self, contents: dict[str, Content]) -> None:
        self._contents = contents

    def __getitem__(self, name: str) -> bytes:
        return bytes(self._contents[name])

    def __contains__(self, name: object) -> bool:
        return name in self._contents

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)


class CrashStates:
    """The states of one tape. Ask with growing positions: it walks along the tape once.

    `base` are the files as they were when the tape began, all of them durable.
    """

    def __init__(
        self, base: Files, operations: Sequence[Operation], device: Device | None = None, seed: int = 0
    ) -> None:
        self.operations = operations
        self.device = device or Device()
        self.seed = seed
        self._base = base
        self._rewind()

    def _rewind(self) -> None:
        self._position = 0
        self._files: list[ChangedFile] = []
        self._names: dict[str, int] = {}
        for name, content in self._base.items():
            if not name.endswith("-shm"):
                self._names[name] = self._new(content)
        # What is durable of the names, and the changes to names since: (index, operation, file).
        self._durable_names = dict(self._names)
        self._pending_names: list[tuple[int, Operation, int]] = []
        self._unsynced_set = frozenset[int]()

    # -- which crashes there are ---------------------------------------------------------------------------

    def process(self, position: int) -> State:
        """The one state that the death of the process leaves after so many operations."""
        return self.at(Crash(position, power=False))

    def power(self, position: int) -> Iterator[State]:
        """The states that a power cut leaves after so many operations, each directory once."""
        seen = set()
        for crash in self.crashes(position):
            state = self.at(crash)
            if state.identity not in seen:
                seen.add(state.identity)
                yield state

    def crashes(self, position: int) -> Iterator[Crash]:
        """The ways in which the power can fail at a position, however alike the directories they leave."""
        self._walk_to(position)
        unsynced = sorted(self._unsynced_set)
        generator = random.Random(self.seed * 1_000_003 + position)  # noqa: S311 - reproducible is the point
        yield Crash(position)
        if not unsynced:
            return
        yield Crash(position, tuple(unsynced))
        chosen = unsynced
        if len(unsynced) > MOST_SINGLES:
            newest, older = unsynced[-MOST_SINGLES // 2 :], unsynced[: -MOST_SINGLES // 2]
            chosen = sorted(generator.sample(older, MOST_SINGLES // 2)) + newest
        for index in chosen:
            yield Crash(position, (index,))
            yield Crash(position, tuple(unsynced[bisect.bisect(unsynced, index) :]))
            for size in self._tears_of(index):
                yield Crash(position, torn=(index, size))
        for _ in range(_RANDOM_SUBSETS if len(unsynced) > 2 else 0):
            lost = tuple(index for index in unsynced if generator.random() < 0.5)
            kept = [index for index in unsynced if index not in set(lost)]
            torn = generator.choice(kept) if kept else None
            tears = self._tears_of(torn) if torn is not None else []
            yield Crash(position, lost, (torn, generator.choice(tears)) if torn is not None and tears else None)

    def _unsynced(self) -> frozenset[int]:
        """The indices of all changes that nothing has made durable."""
        # A file that has lost its last name can't come back but by a name that is durable or still pending.
        numbers = {*self._names.values(), *self._durable_names.values(), *(file for _, _, file in self._pending_names)}
        of_files = {index for number in numbers for index in self._files[number].pending}
        return frozenset(of_files | {index for index, _, _ in self._pending_names})

    def _tears_of(self, index: int) -> list[int]:
        operation = self.operations[index]
        return self.device.tears(operation) if operation.kind == "write" else []

    # -- what a crash leaves -------------------------------------------------------------------------------

    def at(self, crash: Crash) -> State:
        """The directory that a crash leaves; raises ValueError for one that can't happen on this tape."""
        self._walk_to(crash.position)
        lost = frozenset(crash.lost)
        if strangers := lost - self._unsynced_set:
            raise ValueError(f"{crash}: not unsynced there: {_ranges(sorted(strangers))}")
        if crash.torn is not None:
            self._require_tear(crash, *crash.torn)
        names = dict(self._durable_names)
        for index, operation, number in self._pending_names:
            if index not in lost:
                _rename(names, operation, number)
        contents = {name: self._files[names[name]].after(lost, crash.torn) for name in sorted(names)}
        return State(crash, _Directory(contents), tuple([(name, one.digest) for name, one in contents.items()]))

    def _require_tear(self, crash: Crash, index: int, size: int) -> None:
        operation = self.operations[index] if index in self._unsynced_set else None
        if operation is None or operation.kind != "write" or index in crash.lost:
            raise ValueError(f"{crash}: operation {index + 1} is no write that can be torn there")
        if not self.device.powersafe_overwrite <= size < len(operation.data):
            raise ValueError(f"{crash}: the write has {len(operation.data)} bytes; none and all are no tear")

    # -- walking -------------------------------------------------------------------------------------------

    def _walk_to(self, position: int) -> None:
        if not 0 <= position <= len(self.operations):
            raise ValueError(f"the tape has {len(self.operations)} operations; there is no position {position}")
        if position < self._position:
            self._rewind()
        if self._position == position:
            return
        while self._position < position:
            self._step(self._position, self.operations[self._position])
            self._position += 1
        self._unsynced_set = self._unsynced()

    def _step(self, index: int, operation: Operation) -> None:
        kind, name = operation.kind, operation.path
        if kind == "syncdir":
            self._sync_directory(name)
        elif kind == "create":
            self._rename(index, operation, self._new(b""))
        elif kind in ("delete", "rename"):
            if name in self._names:
                self._rename(index, operation, self._names[name])
        elif name in self._names:
            file = self._files[self._names[name]]
            if kind == "sync":
                file.sync()
            else:
                file.add(index, operation)

    def _new(self, content: bytes) -> int:
        device = self.device
        self._files.append(ChangedFile(content, None if device.powersafe_overwrite else device.sector_bytes))
        return len(self._files) - 1

    def _rename(self, index: int, operation: Operation, number: int) -> None:
        _rename(self._names, operation, number)
        self._pending_names.append((index, operation, number))

    def _sync_directory(self, directory: str) -> None:
        kept = []
        for index, operation, number in self._pending_names:
            if directory in {_directory_of(operation.path), _directory_of(operation.other or operation.path)}:
                _rename(self._durable_names, operation, number)
            else:
                kept.append((index, operation, number))
        self._pending_names = kept


def _rename(names: dict[str, int], operation: Operation, number: int) -> None:
    """Carry out a change of names: a create, a delete or a rename."""
    if operation.kind == "delete":
        names.pop(operation.path, None)
    elif operation.kind == "create":
        names[operation.path] = number
    else:
        names.pop(operation.path, None)
        names[operation.other] = number


def _directory_of(path: str) -> str:
    return path.rpartition("/")[0]


def _ranges(indices: Sequence[int]) -> str:
    """Indices as operations count for people, from 1, neighbours joined: ``3, 5-7``."""
    groups: list[list[int]] = []
    for index in indices:
        if groups and groups[-1][-1] == index - 1:
            groups[-1].append(index)
        else:
            groups.append([index])
    return ", ".join(str(one[0] + 1) if len(one) == 1 else f"{one[0] + 1}-{one[-1] + 1}" for one in groups)
