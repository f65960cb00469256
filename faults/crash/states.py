"""Crash states: every directory that a crash could have left, computed from one tape.

Two kinds of crash at a position of the tape (after that many operations):

- *process*: the process dies. All data that it has passed to the system stays; one state per position.
- *power*: the machine stops. Synced changes stay. Each later change (a write, truncate, create, delete, rename or
  new directory) is kept or lost independently: unsynced changes have no order, with two exceptions (`CrashStates`): a
  database that is truncated after its journal was deleted, and a name that is used again after a rename. A write may
  also be torn at a sector boundary, lack some of its pages although later ones are present, or have extended the file
  before its data arrived.

The power states of a position are these, in this order: all kept; all lost; names without data, data without names,
sizes without data; each single loss, each loss of all changes after one, each tear, each hole; the newest write (with
`every` each write) whole, torn or with a hole while all other data is lost; and subsets: all of them if few changes are
unsynced, else seeded random ones. If more than `MOST_SINGLES` changes are unsynced, the single losses are those of the
newest changes and of a seeded sample of the older ones, unless `every` is set.
`left_out` counts what was not enumerated. Equal directories are the same state.

A `Device` says what can tear, in which pieces a write arrives, and what a failed sync does. With powersafe overwrite,
which SQLite assumes, a torn write damages no bytes outside of itself; without it the whole sector in which the write
stopped is garbage.

The shared-memory file is not part of a state: SQLite rebuilds it. A new directory is present if its parent was synced
since, or if it is `deployed`; the contents of a lost directory are lost, too.

Not simulated: reordered sectors inside one page, and pages that the system has dropped and re-reads while it runs.

Source: https://sqlite.org/atomiccommit.html (sections 2 and 9), https://sqlite.org/psow.html; Rebello and others, "Can
Applications Recover from fsync Failures?" (2020); Pillai and others, "All File Systems Are Not Created Equal" (2014).
"""

import bisect
import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from tornpage.faults.crash.blocks import ChangedFile, Ranges
from tornpage.faults.crash.crashes import Crash, Directory, Files, State, ranges
from tornpage.faults.crash.device import Device
from tornpage.faults.crash.names import (
    directory_of,
    entries_in,
    entry_of,
    in_entries,
    lost_with_a_rename,
    reachable,
    rename,
    truncated_after_a_journal,
    with_earlier_changes,
)
from tornpage.faults.files.links import is_link, path_of_link
from tornpage.faults.vfs.operation_log import Operation

MOST_SINGLES: Final = 48
_RANDOM_SUBSETS: Final = 4
# With `every`, all subsets are enumerated for up to this many unsynced changes.
MOST_FOR_ALL_SUBSETS: Final = 8
_SUBSETS_OF_MANY: Final = 16
_OF_NAMES: Final = frozenset({"delete", "rename", "rmdir", "link"})


class _Variants(NamedTuple):
    """How a change may be incomplete; the number of its crashes, with its loss and that of all later ones."""

    tears: list[int]
    holes: list[tuple[int, int]]
    singles: int
    left_out: int


_NO_VARIANTS: Final = _Variants([], [], 2, 0)


class CrashStates:
    """The crash states of one tape. Query increasing positions, so that it replays the tape only once.

    `base` are the files at the beginning of the tape, all of them durable; `deployed` are the operations (by index)
    that made directories which are durable at once. With `every` nothing is sampled that can be enumerated; see
    `left_out`.
    """

    def __init__(
        self,
        base: Files,
        operations: Sequence[Operation],
        device: Device | None = None,
        seed: int = 0,
        *,
        every: bool = False,
        deployed: Collection[int] = (),
    ) -> None:
        self.operations = operations
        self._deployed = frozenset(deployed)
        self.device = device or Device()
        self.seed = seed
        self.every = every
        self._base = base
        # By position: the possible crashes that `crashes` does not enumerate.
        self._left_out: dict[int, Counter[str]] = {}
        self._rewind()

    def _rewind(self) -> None:
        self._position = 0
        self._files: list[ChangedFile] = []
        self._names: dict[str, int] = {}
        self._directories: set[int] = set()
        self._links: set[int] = set()
        for name, content in self._base.items():
            if not name.endswith("-shm"):
                self._place(name, content)
        # The durable names, and the changes to names since: (index, operation in entries, file).
        self._durable_names = dict(self._names)
        self._pending_names: list[tuple[int, Operation, int]] = []
        self._unsynced_set = frozenset[int]()
        # Whether a change is unsynced whose loss brings others with it (`_in_order`).
        self._has_order = False
        self._writes: dict[int, int] = {}
        # By write and durable size of its file.
        self._variants: dict[tuple[int, int], _Variants] = {}

    # -- enumerating crashes -------------------------------------------------------------------------------

    def process(self, position: int) -> State:
        """The one state that a process crash leaves at a position."""
        return self.at(Crash(position, power=False))

    def power(self, position: int) -> Iterator[State]:
        """The states that a power cut can leave at a position, each directory once."""
        seen = set()
        for crash in self.crashes(position):
            state = self.at(crash)
            if state.identity not in seen:
                seen.add(state.identity)
                yield state

    def crashes(self, position: int) -> Iterator[Crash]:
        """The power cuts at a position; several may leave equal directories."""
        yield from self.whole(position)
        yield from self.partial(position)

    def whole(self, position: int) -> Iterator[Crash]:
        """All kept, all lost; all names without data, all data without names, all sizes without data."""
        return map(self._in_order, self._whole(position))

    def partial(self, position: int) -> Iterator[Crash]:
        """Single losses, losses of all after one change, single tears and holes; writes alone; then subsets."""
        return map(self._in_order, self._partial(position))

    def prefixes(self, position: int, first: int, most: int | None = None) -> Iterator[Crash]:
        """The power cuts that keep all changes before one, and lose it and all later ones: it is at `first` or later.

        With `most`, only so many of the newest. None that loses everything.
        """
        self._walk_to(position)
        unsynced = sorted(self._unsynced_set)
        begin = max(bisect.bisect_left(unsynced, first), 1, len(unsynced) - (most or len(unsynced)))
        return map(self._in_order, [Crash(position, tuple(unsynced[at:])) for at in range(begin, len(unsynced))])

    def _in_order(self, crash: Crash) -> Crash:
        """The crash, in which two kinds of changes are lost as well, because an earlier one is lost."""
        if not crash.lost or not self._has_order:
            return crash
        too_late = truncated_after_a_journal(crash.lost, self._unsynced_set, self.operations)
        too_late += lost_with_a_rename(crash.lost, self._pending_names)
        return replace(crash, lost=tuple(sorted({*crash.lost, *too_late}))) if too_late else crash

    def _whole(self, position: int) -> Iterator[Crash]:
        self._walk_to(position)
        unsynced = tuple(sorted(self._unsynced_set))
        yield Crash(position)
        if not unsynced:
            return
        yield Crash(position, unsynced)
        names = tuple([index for index, _, _ in self._pending_names])
        data = tuple(sorted(self._unsynced_set.difference(names)))
        if names and data:
            yield Crash(position, data)
            yield Crash(position, names)
        if grown := [index for index in data if (0, self._size_of(index)) in self._variants_of(index).holes]:
            kept = {*names, *grown, *(index for index in data if self.operations[index].kind == "truncate")}
            lost = tuple([index for index in unsynced if index not in kept])
            yield Crash(position, lost, holes=tuple([(index, 0, self._size_of(index)) for index in grown]))

    def _partial(self, position: int) -> Iterator[Crash]:
        self._walk_to(position)
        unsynced = sorted(self._unsynced_set)
        if not unsynced:
            return
        generator = random.Random(self.seed * 1_000_003 + position)  # noqa: S311 - reproducible is the point
        chosen = self._chosen(unsynced, generator)
        for index in reversed(chosen):
            yield Crash(position, (index,))
            yield Crash(position, tuple(unsynced[bisect.bisect(unsynced, index) :]))
            yield from self._incomplete(position, index, ())
        for index, others in self._alone(chosen):
            yield Crash(position, others)
            yield from self._incomplete(position, index, others)
        yield from self._subsets(position, unsynced, generator)

    def _incomplete(self, position: int, index: int, lost: tuple[int, ...]) -> Iterator[Crash]:
        """The ways in which one change is there in part."""
        variants = self._variants_of(index)
        for size in variants.tears:
            yield Crash(position, lost, torn=(index, size))
        for start, stop in variants.holes:
            yield Crash(position, lost, holes=((index, start, stop),))

    def _alone(self, chosen: list[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The writes that reach the disk first, each with all other unsynced data: the newest, or with `every` each."""
        names = {index for index, _, _ in self._pending_names}
        data = sorted(self._unsynced_set - names)
        writes = [index for index in reversed(chosen) if self.operations[index].kind == "write"]
        if len(data) > 1:
            for index in writes if self.every else writes[:1]:
                yield index, tuple([one for one in data if one != index])

    def how_many(self, position: int) -> int:
        """The number of `crashes` at a position."""
        self._walk_to(position)
        unsynced = sorted(self._unsynced_set)
        chosen = self._chosen(unsynced, random.Random(0))  # noqa: S311
        singles = sum(self._variants_of(index).singles for index in chosen)
        alone = sum(self._variants_of(index).singles - 1 for index, _ in self._alone(chosen))
        return sum(1 for _ in self.whole(position)) + singles + alone + self._how_many_subsets(len(unsynced))

    def left_out(self) -> Counter[str]:
        """The number of crashes of each kind that were not enumerated, at all positions queried so far."""
        total: Counter[str] = Counter()
        for one in self._left_out.values():
            total.update(one)
        return total

    def _chosen(self, unsynced: list[int], generator: random.Random) -> list[int]:
        """The changes whose single loss or tear is enumerated."""
        chosen = unsynced
        if len(unsynced) > MOST_SINGLES and not self.every:
            newest, older = unsynced[-MOST_SINGLES // 2 :], unsynced[: -MOST_SINGLES // 2]
            chosen = sorted(generator.sample(older, MOST_SINGLES // 2)) + newest
        if self._position not in self._left_out:
            out: Counter[str] = Counter()
            if singles := len(unsynced) - len(chosen):
                out["single losses"] = singles
            if not self.every:
                out["tears"] = sum(self._variants_of(index).left_out for index in chosen)
            many = len(unsynced)
            if many > 2 and self._how_many_subsets(many) < 2**many - 2 - many:
                out["positions of which some subsets were tried"] = 1
            self._left_out[self._position] = +out
        return chosen

    def _how_many_subsets(self, many: int) -> int:
        if many <= 2:
            return 0
        if self.every:
            return 2**many - 2 - many if many <= MOST_FOR_ALL_SUBSETS else _SUBSETS_OF_MANY
        return _RANDOM_SUBSETS

    def _subsets(self, position: int, unsynced: list[int], generator: random.Random) -> Iterator[Crash]:
        many = len(unsynced)
        if self.every and 2 < many <= MOST_FOR_ALL_SUBSETS:
            for bits in range(1, 2**many - 1):
                lost = tuple([index for place, index in enumerate(unsynced) if bits >> place & 1])
                if len(lost) > 1:
                    yield Crash(position, lost)
            return
        for _ in range(self._how_many_subsets(many)):
            lost = tuple([index for index in unsynced if generator.random() < 0.5])
            kept = sorted({*unsynced}.difference(lost))
            spoilt = generator.choice(kept) if kept else None
            tears, holes, *_ = self._variants_of(spoilt) if spoilt is not None else _NO_VARIANTS
            number = generator.randrange(len(tears) + len(holes)) if tears or holes else -1
            if spoilt is None or number < 0:
                yield Crash(position, lost)
            elif number < len(tears):
                yield Crash(position, lost, (spoilt, tears[number]))
            else:
                yield Crash(position, lost, holes=((spoilt, *holes[number - len(tears)]),))

    def unsynced(self, position: int) -> frozenset[int]:
        """The indices of the changes that are not durable at a position."""
        self._walk_to(position)
        return self._unsynced_set

    def _unsynced(self) -> frozenset[int]:
        """The indices of all changes that are not durable."""
        # A file without a current name can reappear only by a durable name, or by a pending change that names it.
        numbers = {*self._names.values(), *self._durable_names.values(), *(file for _, _, file in self._pending_names)}
        of_files = {index for number in numbers for index in self._files[number].pending}
        return frozenset(of_files | {index for index, _, _ in self._pending_names})

    def _variants_of(self, index: int) -> _Variants:
        """The tears and the holes of a change; none unless it is a write."""
        operation = self.operations[index]
        if operation.kind != "write":
            return _NO_VARIANTS
        size = self._files[self._writes[index]].durable.size
        known = self._variants.get((index, size))
        if known is None:
            known = self._variants[index, size] = self._variants_of_write(operation, size)
        return known

    def _variants_of_write(self, write: Operation, size: int) -> _Variants:
        tears, holes = self.device.tears(write, every=self.every), self.device.holes(write, size, every=self.every)
        many = len(tears) + len(holes)
        every = len(self.device.tears(write, every=True)) + len(self.device.holes(write, size, every=True))
        return _Variants(tears, holes, 2 + many, every - many)

    def _size_of(self, index: int) -> int:
        return len(self.operations[index].data)

    # -- the state after a crash ---------------------------------------------------------------------------

    def at(self, crash: Crash) -> State:
        """The directory that a crash leaves; raises ValueError for a crash that is impossible on this tape."""
        self._walk_to(crash.position)
        lost = frozenset(crash.lost)
        if strangers := lost - self._unsynced_set:
            raise ValueError(f"{crash}: not unsynced there: {ranges(sorted(strangers))}")
        if crash.torn is not None:
            self._require_tear(crash, *crash.torn)
        holes: dict[int, Ranges] = {}
        for index, start, stop in crash.holes:
            self._require_hole(crash, index, start, stop)
            holes[index] = (*holes.get(index, ()), (start, stop))
        names = dict(self._durable_names)
        for index, operation, number in self._pending_names:
            if index not in lost:
                rename(names, operation, number)
        there = reachable(names, self._directories, self._links)
        contents = {name: self._files[number].after(lost, crash.torn, holes) for name, number in there.items()}
        return State(crash, Directory(contents), tuple([(name, one.digest) for name, one in contents.items()]))

    def _require_tear(self, crash: Crash, index: int, size: int) -> None:
        operation = self._unsynced_write(crash, index)
        if operation is None or any(index == one for one, _, _ in crash.holes):
            raise ValueError(f"{crash}: operation {index + 1} is no write that can be torn there")
        if not self.device.powersafe_overwrite <= size < len(operation.data):
            raise ValueError(f"{crash}: the write has {len(operation.data)} bytes; none and all are no tear")

    def _require_hole(self, crash: Crash, index: int, start: int, stop: int) -> None:
        operation = self._unsynced_write(crash, index)
        if operation is None:
            raise ValueError(f"{crash}: operation {index + 1} is no write that can lack a part there")
        if not 0 <= start < stop <= len(operation.data):
            raise ValueError(
                f"{crash}: the write has {len(operation.data)} bytes; there are no bytes {start} to {stop}"
            )

    def _unsynced_write(self, crash: Crash, index: int) -> Operation | None:
        operation = self.operations[index] if index in self._unsynced_set else None
        return operation if operation is not None and operation.kind == "write" and index not in crash.lost else None

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
        self._has_order = any(
            operation.kind == "rename" or (operation.kind == "delete" and operation.path.endswith("-journal"))
            for _, operation, _ in self._pending_names
        )

    def _step(self, index: int, operation: Operation) -> None:
        kind, name = operation.kind, operation.path
        if kind == "syncdir":
            self._sync_directory(name)
        elif kind == "syncall":
            for file in self._files:
                file.sync()
            self._durable_names, self._pending_names = dict(self._names), []
        elif kind in ("create", "mkdir", "symlink"):
            number = self._new_directory() if kind == "mkdir" else self._new(operation.data)
            if kind == "symlink":
                self._links.add(number)
            self._rename(index, in_entries(self._names, operation), number)
            if index in self._deployed:
                self._make_durable({index})
        elif kind in _OF_NAMES:
            renamed = in_entries(self._names, operation)
            if renamed.path in self._names:
                self._rename(index, renamed, self._names[renamed.path])
        elif (entry := entry_of(self._names, name)) in self._names:
            self._change(index, operation, self._names[entry])

    def _change(self, index: int, operation: Operation, number: int) -> None:
        file = self._files[number]
        if operation.kind == "sync":
            file.sync()
        elif operation.kind == "failsync":
            if self.device.failed_sync == "drops":
                file.drop()
        else:
            self._writes[index] = number
            file.add(index, operation)

    def _new(self, content: bytes) -> int:
        device = self.device
        self._files.append(ChangedFile(content, None if device.powersafe_overwrite else device.sector_bytes))
        return len(self._files) - 1

    def _new_directory(self) -> int:
        number = self._new(b"")
        self._directories.add(number)
        return number

    def _place(self, path: str, content: bytes) -> None:
        """Add a file or a link of the base, or an empty directory, whose path ends with a separator."""
        where = ""
        *above, name = path_of_link(path).split("/")
        for one in above:
            entry = where + one
            if entry not in self._names:
                self._names[entry] = self._new_directory()
            where = f"{self._names[entry]}/"
        if name:
            self._names[where + name] = number = self._new(content)
            if is_link(path):
                self._links.add(number)

    def _rename(self, index: int, operation: Operation, number: int) -> None:
        rename(self._names, operation, number)
        self._pending_names.append((index, operation, number))

    def _sync_directory(self, directory: str) -> None:
        synced = entries_in(self._names, directory)
        # Of a rename or a link the new entry counts: fsync(2) makes a directory's own entries durable, no others.
        self._make_durable(
            {index for index, one, _ in self._pending_names if directory_of(one.other or one.path) == synced}
        )

    def _make_durable(self, changes: set[int]) -> None:
        durable = with_earlier_changes(self._pending_names, changes)
        for index, operation, number in self._pending_names:
            if index in durable:
                rename(self._durable_names, operation, number)
        self._pending_names = [one for one in self._pending_names if one[0] not in durable]
