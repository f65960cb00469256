"""Finds the crash of a tape that leaves a given directory: the inverse of the crash model.

Method. A file system writes whole pages, at any time: each page of a file holds the writes up to some moment, or any
subset of them. So for each page the search determines the writes that produce its content; for each write the pages
that lack it are its holes, and a write that no page has is lost. The result is passed to `CrashStates.at`, and counts
only if that makes exactly this directory.

Reads the private data of `CrashStates` about unsynced changes; for files that are truncated and extended again while
unsynced, each of these changes is tried as kept and as lost.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final

from tornpage import faults
from tornpage.faults.crash.blocks import ChangedFile
from tornpage.faults.crash.names import reachable, rename

_PAGE: Final = 4096
_MOST_SUBSETS: Final = 12
_Holes = tuple[tuple[int, int, int], ...]


def crash_that_leaves(found: Mapping[str, bytes], states: faults.CrashStates, position: int) -> faults.Crash | None:
    """The crash after so many operations that leaves these files; None where the model has none."""
    states.unsynced(position)
    pending = states._pending_names
    for lost_names in _subsets([index for index, _, _ in pending]):
        names = dict(states._durable_names)
        for index, operation, number in pending:
            if index not in lost_names:
                rename(names, operation, number)
        there = reachable(names, states._directories, states._links)
        if there.keys() != found.keys():
            continue
        crash = _of_contents(found, states, position, there, lost_names)
        if crash is not None:
            return crash
    return None


def _of_contents(
    found: Mapping[str, bytes],
    states: faults.CrashStates,
    position: int,
    names: Mapping[str, int],
    lost_names: frozenset[int],
) -> faults.Crash | None:
    lost, holes, torn = set(lost_names), list[tuple[int, int, int]](), None
    for name, number in names.items():
        fit = _fit(states._files[number], found[name])
        if fit is None or (fit[2] and torn):
            return None
        lost |= fit[0]
        holes += fit[1]
        torn = torn or fit[2]
    crash = faults.Crash(position, tuple(sorted(lost & states.unsynced(position))), torn, holes=tuple(holes))
    try:
        left = dict(states.at(crash).files)
    except ValueError:
        return None
    # One that the model would not enumerate, because of what is lost with a rename, does not count.
    return crash if left == found and states._in_order(crash) == crash else None


def _subsets(indices: Sequence[int]) -> Iterator[frozenset[int]]:
    """The subsets that may be lost: the newest first, since a journal keeps the order of names; then all others."""
    for kept in range(len(indices), -1, -1):
        yield frozenset(indices[kept:])
    if len(indices) <= _MOST_SUBSETS:
        for bits in product((False, True), repeat=len(indices)):
            yield frozenset(index for index, is_lost in zip(indices, bits, strict=True) if is_lost)


def _fit(file: ChangedFile, found: bytes) -> tuple[set[int], _Holes, tuple[int, int] | None] | None:
    """What of a file's changes is lost, has holes, or is torn where it is found so."""
    changes = dict(file.pending)
    durable = bytes(file.durable)
    cuts = [index for index, one in changes.items() if one.kind == "truncate"]
    for lost_cuts in _subsets(cuts):
        kept = {index: one for index, one in changes.items() if index not in lost_cuts}
        pages = [_writes_in(durable, kept, page, found) for page in range(-(-len(found) // _PAGE))]
        if all(one is not None for one in pages):
            for is_sized in (False, True):
                lost, holes, torn = _as_crash(
                    kept, lost_cuts, [one or frozenset() for one in pages], len(found), is_sized
                )
                parts: dict[int, tuple[tuple[int, int], ...]] = {}
                for index, start, stop in holes:
                    parts[index] = (*parts.get(index, ()), (start, stop))
                if bytes(file.after(frozenset(lost), torn, parts)) == found:
                    return lost, holes, torn
    return None


def _writes_in(
    durable: bytes, changes: Mapping[int, faults.Operation], page: int, found: bytes
) -> frozenset[int] | None:
    """The writes that a page has, as few as will do; None where no subset of them makes it what it is."""
    start, stop = page * _PAGE, min((page + 1) * _PAGE, len(found))
    touching = [
        index for index, one in changes.items()
        if one.kind == "write" and one.offset < stop and one.offset + len(one.data) > start
    ]  # fmt: skip

    def is_made_by(kept: frozenset[int]) -> bool:
        content = bytearray(durable[start:stop].ljust(stop - start, b"\0"))
        for index, one in changes.items():
            if one.kind == "truncate" and one.size < stop:
                at = max(one.size - start, 0)
                content[at:] = bytes(len(content) - at)
            elif index in kept:
                begin, end = max(one.offset, start), min(one.offset + len(one.data), stop)
                content[begin - start : end - start] = one.data[begin - one.offset : end - one.offset]
        return content == found[start:stop]

    kept = next(
        (frozenset(touching) - lost for lost in _subsets(touching) if is_made_by(frozenset(touching) - lost)), None
    )
    # What is written over anyway may as well be lost.
    for index in kept or ():
        kept = less if kept and is_made_by(less := kept - {index}) else kept
    return kept


def _as_crash(
    changes: Mapping[int, faults.Operation],
    lost_cuts: frozenset[int],
    pages: Sequence[frozenset[int]],
    size: int,
    is_sized: bool,
) -> tuple[set[int], _Holes, tuple[int, int] | None]:
    lost, holes, torn = set(lost_cuts), list[tuple[int, int, int]](), None
    for index, one in changes.items():
        if one.kind != "write":
            continue
        end = one.offset + len(one.data)
        first = one.offset // _PAGE
        touched = range(first, -(-end // _PAGE))
        if not any(page < len(pages) and index in pages[page] for page in touched):
            if is_sized and end <= size:
                # Nothing of it is there but that the file is longer.
                holes.append((index, 0, len(one.data)))
            else:
                lost.add(index)
            continue
        if end > size:
            torn = (index, size - one.offset)
        for page in touched:
            if page < len(pages) and index not in pages[page]:
                begin = max(page * _PAGE - one.offset, 0)
                holes.append((index, begin, min((page + 1) * _PAGE - one.offset, len(one.data))))
    return lost, tuple(holes), torn
