"""A slow and simple implementation of the crash model's rules, against `faults.CrashStates` on random tapes.

``python -m benchmarks.naive_crash_model --tapes 20000`` makes random tapes, takes some crashes at each position, and
compares the directory that each leaves with the naive model, which applies all operations one after another to plain
byte strings. The exit code is 1 at the first difference, and the tape is printed.

The naive model has no blocks, digests, caches or incremental replay: a file is bytes and a list of changes; the state
of a crash is computed from the beginning of the tape every time.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from unittest import mock

import click

from tornpage import faults
from tornpage.faults import Crash, Device, Operation
from tornpage.faults.crash import blocks

# Pages, and the blocks in which `faults` keeps contents, are this small here: a few bytes cross several.
_PAGE: Final = 16
_NAMES: Final = ("a", "b", "d/a", "d/b", "d/e/a")
_DIRECTORIES: Final = ("d", "d/e", "f")


@dataclass
class _File:
    """Bytes that are durable, the changes since, and which of these a failed sync has dropped."""

    durable: bytes
    changes: list[tuple[int, Operation]] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    # Of a dropped write: the positions of bytes that a later sync has written after all.
    written: dict[int, set[int]] = field(default_factory=dict)


def _grown(content: bytearray, size: int) -> None:
    content.extend(bytes(max(size - len(content), 0)))


def _apply(content: bytearray, operation: Operation, keep: set[int], end: int) -> None:
    """Do one change; of a write the bytes at these positions of its data, and the file is at least `end` long."""
    if operation.kind == "truncate":
        _grown(content, operation.size)
        del content[operation.size :]
        return
    _grown(content, end)
    for position in sorted(keep):
        content[operation.offset + position] = operation.data[position]


def _pages(operation: Operation, positions: set[int]) -> set[int]:
    return {(operation.offset + position) // _PAGE for position in positions}


class Naive:
    """What a crash leaves, by the rules alone."""

    def __init__(self, base: dict[str, bytes], operations: Sequence[Operation], device: Device) -> None:
        self.base, self.operations, self.device = base, operations, device

    def unsynced(self, position: int) -> set[int]:
        """The changes that nothing has made durable after so many operations, and that a name can lead to."""
        files, names, durable, pending = self._played(position)
        numbers = {*names.values(), *durable.values(), *(number for _, _, number in pending)} - {-1}
        return {index for index, _, _ in pending} | {index for one in numbers for index, _ in files[one].changes}

    def at(self, crash: Crash) -> dict[str, bytes]:
        """The files that the crash leaves."""
        files, _, durable, pending = self._played(crash.position)
        after = dict(durable)
        for index, operation, number in pending:
            if index not in crash.lost:
                _rename(after, operation, number)
        there = {name: number for name, number in after.items() if all(above in after for above in _above(name))}
        filled = {above for name in there for above in _above(name)}
        return {
            name: b"" if number < 0 else self._content(files[number], crash)
            for name, number in there.items()
            if name not in filled
        }

    def _played(
        self, position: int
    ) -> tuple[list[_File], dict[str, int], dict[str, int], list[tuple[int, Operation, int]]]:
        """The files, the names now, those that are durable, and the changes of names since."""
        files: list[_File] = []
        names: dict[str, int] = {}
        for name, content in self.base.items():
            files.append(_File(content))
            names[name] = len(files) - 1
            for above in _above(name):
                names.setdefault(above, -1)
        durable, pending = dict(names), list[tuple[int, Operation, int]]()
        for index, operation in enumerate(self.operations[:position]):
            pending = self._step(index, operation, files, names, durable, pending)
        return files, names, durable, pending

    def _step(  # noqa: C901, PLR0911, PLR0912 - one branch for each kind of operation, as simple as it can be
        self,
        index: int,
        operation: Operation,
        files: list[_File],
        names: dict[str, int],
        durable: dict[str, int],
        pending: list[tuple[int, Operation, int]],
    ) -> list[tuple[int, Operation, int]]:
        kind, path = operation.kind, operation.path
        if kind == "syncall":
            for file in files:
                _sync(file)
            durable.clear()
            durable.update(names)
            return []
        if kind == "syncdir":
            rest = []
            for one in pending:
                if path == _parent(one[1].other or one[1].path):
                    _rename(durable, one[1], one[2])
                else:
                    rest.append(one)
            return rest
        if kind == "create":
            files.append(_File(b""))
            _rename(names, operation, len(files) - 1)
            return [*pending, (index, operation, len(files) - 1)]
        if kind == "mkdir":
            made = Operation("create", path + "/")
            _rename(names, made, -1)
            return [*pending, (index, made, -1)]
        if kind in ("delete", "rename", "link", "rmdir"):
            if path not in names:
                operation = Operation(
                    "delete" if kind == "rmdir" else kind, path + "/", other=operation.other and operation.other + "/"
                )
            if operation.path not in names:
                return pending
            number = names[operation.path]
            _rename(names, operation, number)
            return [*pending, (index, operation, number)]
        if path in names and names[path] >= 0:
            file = files[names[path]]
            if kind == "sync":
                _sync(file)
            elif kind == "failsync":
                if self.device.failed_sync == "drops":
                    file.dropped |= {one for one, change in file.changes if change.kind == "write"}
            else:
                file.changes.append((index, operation))
        return pending

    def _content(self, file: _File, crash: Crash) -> bytes:
        content = bytearray(file.durable)
        for place, (index, operation) in enumerate(file.changes):
            keep, end = set(range(len(operation.data))) - file.written.get(index, set()), 0
            if operation.kind == "write":
                end = operation.offset + len(operation.data)
            if index in crash.lost:
                if index not in file.dropped:
                    continue
                # A later write to the same page, which is kept, has taken the page along.
                along = {
                    page
                    for later, change in file.changes[place + 1 :]
                    if later not in crash.lost and later not in file.dropped and change.kind == "write"
                    for page in _pages(change, set(range(len(change.data))))
                }
                keep = {one for one in keep if (operation.offset + one) // _PAGE in along}
                if not along & _pages(operation, set(range(len(operation.data)))):
                    continue
            # Of what a sync has dropped the size is durable.
            is_torn = crash.torn is not None and crash.torn[0] == index and crash.torn[1] < len(operation.data)
            if crash.torn is not None and is_torn:
                keep = {one for one in keep if one < crash.torn[1]}
                end = operation.offset + crash.torn[1]
            for hole, start, stop in crash.holes:
                if hole == index:
                    keep -= set(range(start, stop))
            _apply(content, operation, keep, max(0 if index in file.written else end, _reach(operation, keep)))
            if is_torn and not self.device.powersafe_overwrite:
                sector = self.device.sector_bytes
                first = end - end % sector
                last = min(first + sector, max(len(content), operation.offset + len(operation.data)))
                _grown(content, last)
                content[first:last] = b"\xa5" * (last - first)
        return bytes(content)


def _reach(operation: Operation, keep: set[int]) -> int:
    return operation.offset + max(keep) + 1 if keep else 0


def _sync(file: _File) -> None:
    """Everything becomes durable, but for dropped pages to which nothing was written since."""
    content = bytearray(file.durable)
    left: list[tuple[int, Operation]] = []
    written: dict[int, set[int]] = {}
    for place, (index, operation) in enumerate(file.changes):
        data = set(range(len(operation.data)))
        keep = data - file.written.get(index, set())
        if index in file.dropped:
            later = file.changes[place + 1 :]
            again = {
                page
                for one, change in later
                if one not in file.dropped and change.kind == "write"
                for page in _pages(change, set(range(len(change.data))))
            }
            cut = min([change.size for _, change in later if change.kind == "truncate"], default=sys.maxsize)
            missing = {
                one for one in keep if (operation.offset + one) // _PAGE not in again and operation.offset + one < cut
            }
            if missing:
                short = Operation("write", operation.path, operation.offset, operation.data[: max(missing) + 1])
                left.append((index, short))
                written[index] = set(range(len(short.data))) - missing
            keep -= missing
        end = operation.offset + len(operation.data) if operation.kind == "write" else 0
        _apply(content, operation, keep, end if data - file.written.get(index, set()) else 0)
    file.durable, file.changes = bytes(content), left
    file.dropped, file.written = {index for index, _ in left}, written


def _rename(names: dict[str, int], operation: Operation, number: int) -> None:
    if operation.kind == "delete":
        names.pop(operation.path, None)
    elif operation.kind == "create":
        names[operation.path] = number
    elif operation.kind == "link":
        names[operation.other] = number
    else:
        names.pop(operation.path, None)
        names[operation.other] = number
        if operation.path.endswith("/"):
            for name in [one for one in names if one.startswith(operation.path)]:
                names[operation.other + name[len(operation.path) :]] = names.pop(name)


def _parent(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0]


def _above(path: str) -> list[str]:
    found = []
    while path := _parent(path):
        found.append(path + "/")
    return found


# -- random tapes --------------------------------------------------------------------------------------------


def random_tape(generator: random.Random) -> tuple[dict[str, bytes], list[Operation], Device]:
    """Files, operations on them that make sense in their order, and a device."""
    base = {name: generator.randbytes(generator.choice((0, 3, 21))) for name in _NAMES[: generator.randrange(3)]}
    there = set(base)
    directories = {"d"} if generator.random() < 0.3 else set[str]()
    base |= {f"{one}/": b"" for one in directories}
    operations: list[Operation] = []
    for _ in range(generator.randrange(1, 14)):
        operations += _random_operation(generator, there, directories)
    powersafe = generator.random() < 0.8
    device = Device(
        sector_bytes=generator.choice((4, 8, 16)),
        page_bytes=_PAGE,
        powersafe_overwrite=powersafe,
        failed_sync=generator.choice(("keeps", "drops")),
    )
    return base, operations, device


def _random_operation(  # noqa: C901, PLR0911, PLR0912 - as above
    generator: random.Random, there: set[str], directories: set[str]
) -> list[Operation]:
    kind = generator.choices(
        ("write", "truncate", "sync", "failsync", "syncdir", "create", "delete", "rename", "link", "mkdir", "syncall"),
        (8, 2, 3, 2, 2, 4, 1, 2, 1, 2, 0.3),
    )[0]
    open_to = [name for name in _NAMES if not _parent(name) or _parent(name) in directories]
    if kind in ("create", "rename", "link") and not open_to:
        return []
    if kind == "create":
        name = generator.choice(open_to)
        if name in there:
            return []
        there.add(name)
        return [Operation("create", name)]
    if kind == "mkdir":
        free = [
            one for one in _DIRECTORIES if one not in directories and (not _parent(one) or _parent(one) in directories)
        ]
        if not free:
            return []
        name = generator.choice(free)
        directories.add(name)
        return [Operation("mkdir", name)]
    if kind == "syncdir":
        return [Operation("syncdir", generator.choice(["", *sorted(directories)]))]
    if kind == "syncall":
        return [Operation("syncall", "")]
    if not there:
        return []
    name = generator.choice(sorted(there))
    if kind == "write":
        size = generator.choice((1, 6, 16, 35))
        return [Operation("write", name, generator.choice((0, 7, 14, 32)), generator.randbytes(size))]
    if kind == "truncate":
        return [Operation("truncate", name, size=generator.choice((0, 5, 16, 24)))]
    if kind == "delete":
        there.discard(name)
        return [Operation("delete", name)]
    if kind in ("rename", "link"):
        other = generator.choice(open_to)
        if other == name or (kind == "link" and other in there):
            return []
        there.add(other)
        if kind == "rename":
            there.discard(name)
        return [Operation(kind, name, other=other)]
    return [Operation(kind, name)]


def differences(seed: int, most_a_position: int = 12) -> tuple[int, str]:
    """How many states of the tape of a seed were compared, and the first one that differs, in words."""
    with mock.patch.object(blocks, "_BLOCK", _PAGE):
        return _differences(random.Random(seed), seed, most_a_position)  # noqa: S311 - reproducible is the point


def _differences(generator: random.Random, seed: int, most_a_position: int) -> tuple[int, str]:
    base, operations, device = random_tape(generator)
    states, naive, compared = faults.CrashStates(base, operations, device, seed), Naive(base, operations, device), 0
    for position in range(len(operations) + 1):
        tape = "\n".join(f"  {number}. {one}" for number, one in enumerate(operations, start=1))
        if (ours_unsynced := set(states.unsynced(position))) != (theirs_unsynced := naive.unsynced(position)):
            return compared, f"seed {seed}: unsynced at {position}: {ours_unsynced} and {theirs_unsynced}\n{tape}"
        crashes = [Crash(position, power=False), *states.crashes(position)]
        if len(crashes) > most_a_position:
            crashes = generator.sample(crashes, most_a_position)
        for crash in crashes:
            compared += 1
            ours, theirs = dict(states.at(crash).files), naive.at(crash)
            if ours != theirs:
                return compared, f"seed {seed}: {crash} on {device}\n{tape}\n{_short(ours)}\n{_short(theirs)}"
    return compared, ""


def _short(files: dict[str, bytes]) -> str:
    return ", ".join(f"{name}: {len(content)} bytes, hash {hash(content):x}" for name, content in sorted(files.items()))


@click.command()
@click.option("--tapes", type=click.IntRange(min=1), default=5_000, show_default=True, help="So many random tapes.")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of the first one.")
def main(tapes: int, seed: int) -> None:
    """Compare the states of random tapes with a naive model of the rules."""
    compared = 0
    for one in range(seed, seed + tapes):
        count, difference = differences(one)
        compared += count
        if difference:
            raise click.ClickException(difference)
    click.echo(f"{compared:,} states of {tapes:,} random tapes: no difference")


if __name__ == "__main__":
    main()
