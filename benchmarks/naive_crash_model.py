"""A slow and simple implementation of the crash model's rules, against `faults.CrashStates` on random tapes.

``python -m benchmarks.naive_crash_model --tapes 20000`` makes random tapes, takes some crashes at each position, and
compares the directory that each leaves with the naive model, which applies all operations one after another to plain
byte strings. The exit code is 1 at the first difference, and the tape is printed.

The naive model has no blocks, digests, caches or incremental replay: a file is bytes and a list of changes, a directory
an object with its entries; the state of a crash is computed from the beginning of the tape every time. The rules of
names are those of ``docs/crash.md``; no code of ``faults/crash/names.py`` is used or copied.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from unittest import mock

import click
from benchmarks.random_tapes import PAGE, random_tape

from tornpage import faults
from tornpage.faults import Crash, Device, Operation
from tornpage.faults.crash import blocks


@dataclass
class _File:
    """Bytes that are durable, the changes since, and which of these a failed sync has dropped."""

    durable: bytes
    is_link: bool = False
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
    return {(operation.offset + position) // PAGE for position in positions}


@dataclass(eq=False)
class _Directory:
    """Its entries as the program sees them, and as the disk has them."""

    now: dict[str, "_File | _Directory"] = field(default_factory=dict)
    disk: dict[str, "_File | _Directory"] = field(default_factory=dict)


# One change of names: its index, and the entries that it sets (None: removes), the last one being that which counts.
_Change = tuple[int, list[tuple[_Directory, str, "_File | _Directory | None"]]]


class Naive:
    """What a crash leaves, by the rules alone."""

    def __init__(self, base: dict[str, bytes], operations: Sequence[Operation], device: Device) -> None:
        self.base, self.operations, self.device = base, operations, device

    def unsynced(self, position: int) -> set[int]:
        """The changes that nothing has made durable after so many operations, and that a name can lead to."""
        directories, files, pending = self._played(position)
        named = [node for one in directories for node in (*one.now.values(), *one.disk.values())]
        named += [node for _, entries in pending for _, _, node in entries if node]
        data = {index for file in files if any(file is one for one in named) for index, _ in file.changes}
        return {index for index, _ in pending} | data

    def at(self, crash: Crash) -> dict[str, bytes]:
        """The files that the crash leaves, and the empty directories."""
        directories, _, pending = self._played(crash.position)
        if not crash.power:
            # What the process has passed to the system stays, whatever the rules of a sync are.
            for one in directories:
                one.disk = one.now
            pending = []
        for index, entries in pending:
            if index not in crash.lost:
                _set(entries, on_disk=True)
        return self._files_in(directories[0], "", crash, [])

    def too_late(self, position: int, lost: set[int]) -> set[int]:
        """The kept changes of an entry that a file was renamed away from, although that rename is lost."""
        late, taken = set[int](), list[tuple[_Directory, str]]()
        for index, entries in self._played(position)[2]:
            if index not in lost and any((where, name) in taken for where, name, _ in entries):
                late.add(index)
            if index in lost | late and self.operations[index].kind == "rename":
                taken.append(entries[0][:2])
        return late

    def _files_in(self, directory: _Directory, path: str, crash: Crash, above: list[_Directory]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name, node in directory.disk.items():
            if isinstance(node, _File):
                found[path + name + "\0" * node.is_link] = self._content(node, crash)
            elif node not in above:
                inside = self._files_in(node, f"{path}{name}/", crash, [*above, node])
                found |= inside if node.disk else {f"{path}{name}/": b""}
        return found

    def _played(self, position: int) -> tuple[list[_Directory], list[_File], list[_Change]]:
        """The directories (the tape's own first), the files, and the changes of names that are not durable."""
        directories, files, pending = [_Directory()], list[_File](), list[_Change]()
        for path, content in self.base.items():
            _lay(directories, files, path, content)
        for index, operation in enumerate(self.operations[:position]):
            pending = self._step(index, operation, directories, files, pending)
        return directories, files, pending

    def _step(
        self,
        index: int,
        operation: Operation,
        directories: list[_Directory],
        files: list[_File],
        pending: list[_Change],
    ) -> list[_Change]:
        kind, (where, name) = operation.kind, _found(directories[0], operation.path)
        if kind == "syncall":
            for file in files:
                _sync(file)
            for one in directories:
                one.disk = dict(one.now)
            return []
        if kind == "syncdir":
            return _still_pending(where.now[name] if name else where, pending)
        if kind in ("create", "mkdir", "symlink", "delete", "rmdir", "rename", "link"):
            entries = _entries(operation, directories, files)
            _set(entries, on_disk=False)
            return [*pending, (index, entries)]
        changed = where.now[name]
        if isinstance(changed, _File):
            self._change(index, operation, changed)
        return pending

    def _change(self, index: int, operation: Operation, file: _File) -> None:
        if operation.kind == "sync":
            _sync(file)
        elif operation.kind != "failsync":
            file.changes.append((index, operation))
        elif self.device.failed_sync == "drops":
            file.dropped |= {one for one, change in file.changes if change.kind == "write"}

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
                keep = {one for one in keep if (operation.offset + one) // PAGE in along}
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
                one for one in keep if (operation.offset + one) // PAGE not in again and operation.offset + one < cut
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


def _still_pending(synced: object, pending: list[_Change]) -> list[_Change]:
    """What is not durable after the sync of a directory; all other changes are applied to the disk."""
    left, names = list[_Change](), list[tuple[_Directory, str]]()
    for change in reversed(pending):
        changed = [(where, name) for where, name, _ in change[1]]
        if change[1][-1][0] is synced or any(one in names for one in changed):
            # The earlier changes of the same names are durable, too.
            names += changed
        else:
            left.insert(0, change)
    for change in pending:
        if change not in left:
            _set(change[1], on_disk=True)
    return left


def _found(root: _Directory, path: str) -> tuple[_Directory, str]:
    """The directory in which the last part of a path is, and that part."""
    *above, name = path.split("/")
    for one in above:
        node = root.now[one]
        if not isinstance(node, _Directory):
            raise TypeError(f"{path}: {one} is no directory")
        root = node
    return root, name


def _lay(directories: list[_Directory], files: list[_File], path: str, content: bytes) -> None:
    """Add a file or a link of the base, or an empty directory, whose path ends with a separator."""
    where = directories[0]
    *above, name = path.removesuffix("\0").split("/")
    for one in above:
        node = where.now.get(one)
        if not isinstance(node, _Directory):
            node = _Directory()
            directories.append(node)
            where.now[one] = where.disk[one] = node
        where = node
    if name:
        files.append(_File(content, path.endswith("\0")))
        where.now[name] = where.disk[name] = files[-1]


def _entries(
    operation: Operation, directories: list[_Directory], files: list[_File]
) -> list[tuple[_Directory, str, _File | _Directory | None]]:
    """The entries that a change of names sets."""
    kind, (where, name) = operation.kind, _found(directories[0], operation.path)
    if kind in ("create", "symlink"):
        files.append(_File(operation.data, kind == "symlink"))
        return [(where, name, files[-1])]
    if kind == "mkdir":
        directories.append(_Directory())
        return [(where, name, directories[-1])]
    if kind in ("delete", "rmdir"):
        return [(where, name, None)]
    new = (*_found(directories[0], operation.other), where.now[name])
    return [new] if kind == "link" else [(where, name, None), new]


def _set(entries: list[tuple[_Directory, str, _File | _Directory | None]], *, on_disk: bool) -> None:
    for where, name, node in entries:
        names = where.disk if on_disk else where.now
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def differences(seed: int, most_a_position: int = 12) -> tuple[int, str]:
    """How many states of the tape of a seed were compared, and the first one that differs, in words."""
    with mock.patch.object(blocks, "_BLOCK", PAGE):
        return _differences(random.Random(seed), seed, most_a_position)  # noqa: S311 - reproducible is the point


def _differences(generator: random.Random, seed: int, most_a_position: int) -> tuple[int, str]:
    base, operations, device = random_tape(generator)
    states, naive, compared = faults.CrashStates(base, operations, device, seed), Naive(base, operations, device), 0
    for position in range(len(operations) + 1):
        tape = "\n".join(f"  {number}. {one}" for number, one in enumerate(operations, start=1))
        if (ours_unsynced := set(states.unsynced(position))) != (theirs_unsynced := naive.unsynced(position)):
            return compared, f"seed {seed}: unsynced at {position}: {ours_unsynced} and {theirs_unsynced}\n{tape}"
        crashes = [Crash(position, power=False), *states.crashes(position)]
        if difference := _wrong_order(position, crashes, naive):
            return compared, f"seed {seed}: {difference}\n{tape}"
        if len(crashes) > most_a_position:
            crashes = [crashes[0], *generator.sample(crashes[1:], most_a_position - 1)]
        for crash in crashes:
            compared += 1
            ours, theirs = dict(states.at(crash).files), naive.at(crash)
            if ours != theirs:
                return compared, f"seed {seed}: {crash} on {device}\n{tape}\n{_short(ours)}\n{_short(theirs)}"
    return compared, ""


def _wrong_order(position: int, crashes: Sequence[Crash], naive: Naive) -> str:
    """What is wrong with the lost changes: a name used again while its rename is lost, or a single loss left out."""
    tried = {frozenset(one.lost) for one in crashes}
    for lost in tried:
        if late := naive.too_late(position, set(lost)):
            return f"at {position} {set(lost)} are lost, and {late} are not"
    for index in naive.unsynced(position):
        least = frozenset({index} | naive.too_late(position, {index}))
        if least not in tried:
            return f"at {position} no crash loses {set(least)} alone"
    return ""


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
