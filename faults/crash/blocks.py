"""A file's content in blocks: hundreds of versions of one file that share their equal blocks.

A `Draft` makes one version from another; it copies and digests only the blocks that it touches. So two contents are
compared by their digests, and the bytes are joined only when they are read.

`ChangedFile` computes what a crash can leave of one file, from its durable content and its unsynced changes. Most
crashes lose a few changes of many. If all changes are writes, only the blocks that the lost ones touch are rebuilt;
otherwise all changes after the first lost one are applied again, to the content before it.
"""

import bisect
import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from tornpage.faults.vfs.operation_log import Operation

Torn = tuple[int, int]
"""The index of a write that was torn, and how many of its bytes reached the disk."""

Ranges = tuple[tuple[int, int], ...]
"""Parts of a write that did not reach the disk, as (start, stop) in its data; the file's size includes them."""

_Holes = dict[int, Ranges]
_NO_HOLES: Final[_Holes] = {}

_BLOCK: Final = 4096
_GARBAGE: Final = b"\xa5"
# Rebuilding single blocks is faster for up to this many lost changes.
_FEW: Final = 4
_MOST_MADE: Final = 4096
_MOST_GROWN: Final = 256
_MOST_CONTENTS: Final = 16


class Content:
    """Bytes in blocks, with a digest of each and of the whole; equal bytes have equal digests. Immutable."""

    __slots__ = ("blocks", "digest", "digests", "size")

    def __init__(self, blocks: list[bytes], digests: list[bytes], size: int) -> None:
        # All blocks except the last are full.
        self.blocks = blocks
        self.digests = digests
        self.size = size
        self.digest = _digest(b"%d %b" % (size, b"".join(digests)))

    @staticmethod
    @functools.lru_cache(maxsize=_MOST_CONTENTS)
    def of(data: bytes) -> "Content":
        """The content of these bytes; cached, since many tapes begin with the same files."""
        draft = Draft(Content([], [], 0))
        draft.write(0, data)
        return draft.done()

    def __bytes__(self) -> bytes:
        return b"".join(self.blocks)


class Draft:
    """A content under change; `size` is in bytes."""

    def __init__(self, start: Content) -> None:
        self.size = start.size
        self._blocks = start.blocks.copy()
        self._digests = start.digests.copy()
        self._touched: set[int] = set()

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at an offset; a gap before them is filled with zeros."""
        if offset > self.size:
            self.resize(offset)
        end = offset + len(data)
        for index in _blocks_of(offset, end):
            self._put(index, *_part_in(index, offset, data))
        self.size = max(self.size, end)

    def replace(self, index: int, block: bytes, digest: bytes) -> None:
        """Replace a block by another of the same length."""
        self._blocks[index] = block
        self._digests[index] = digest
        self._touched.discard(index)

    def _put(self, index: int, at: int, piece: bytes) -> None:
        self._touched.add(index)
        if index == len(self._blocks):
            self._blocks.append(piece)
            self._digests.append(b"")
            return
        old = self._blocks[index]
        whole = not at and len(piece) >= len(old)
        self._blocks[index] = piece if whole else b"%b%b%b" % (old[:at], piece, old[at + len(piece) :])

    def resize(self, size: int) -> None:
        """Truncate to `size`, or extend with zeros."""
        if size > self.size:
            self.write(self.size, bytes(size - self.size))
            return
        count = -(-size // _BLOCK)
        del self._blocks[count:], self._digests[count:]
        if count:
            self._blocks[-1] = self._blocks[-1][: size - (count - 1) * _BLOCK]
            self._touched.add(count - 1)
        self.size = size

    def done(self) -> Content:
        """The resulting content."""
        for index in self._touched:
            if index < len(self._blocks):
                self._digests[index] = _digest(self._blocks[index])
        return Content(self._blocks, self._digests, self.size)


class ChangedFile:
    """One file: its durable content, and the changes since its last sync, in order.

    `damaged_bytes` is the size of the sectors that a torn write turns into garbage; None if it damages nothing.

    A failed sync may drop pages (`drop`): the system marks them as clean, so no later sync writes them. They reach the
    disk only with a later write to the same page, because the system writes whole pages.
    """

    def __init__(self, content: bytes, damaged_bytes: int | None = None) -> None:
        self._damaged_bytes = damaged_bytes
        self._begin(Content.of(content))

    def _begin(self, durable: Content) -> None:
        self.durable = durable
        self.pending: dict[int, Operation] = {}
        # The pending writes whose pages a failed sync has dropped, and the parts of them that are settled since.
        self._dropped: set[int] = set()
        self._settled: _Holes = {}
        # The content after the first N changes, by N.
        self._grown = {0: durable}
        self._by_block: defaultdict[int, list[int]] = defaultdict(list)
        # Blocks with their digests, by the changes that made them.
        self._made: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
        self._order: list[int] = []
        self._is_only_written = True

    def add(self, index: int, operation: Operation) -> None:
        """Add a write or a truncate, with its index on the tape."""
        self.pending[index] = operation
        self._order.append(index)
        if operation.kind == "truncate":
            self._is_only_written = False
        else:
            for block in _touched_by(operation):
                self._by_block[block].append(index)

    def sync(self) -> None:
        """Make all changes durable, except pages that were dropped and not written again since."""
        if not self._dropped:
            self._begin(self._with_first(len(self.pending)))
            return
        left = self._still_dropped()
        draft = Draft(self.durable)
        for index in self._order:
            self._apply(draft, index, None, left.get(index, ()))
        # Cut the data where the rest is settled: a later truncate has removed that part.
        kept = {
            index: replace(self.pending[index], data=self.pending[index].data[: left[index][-1][1]]) for index in left
        }
        self._begin(draft.done())
        for index, operation in kept.items():
            self.add(index, operation)
            self._dropped.add(index)
            self._settled[index] = _complement(left[index], len(operation.data))

    def drop(self) -> None:
        """A sync has failed: from now on the system treats the unwritten pages as clean."""
        self._dropped.update(index for index, operation in self.pending.items() if operation.kind == "write")

    def _still_dropped(self) -> _Holes:
        """The parts of dropped writes that a sync does not write: no later write has touched their pages."""
        left: _Holes = {}
        for index in self._order:
            if index in self._dropped:
                later = self._order[self._order.index(index) + 1 :]
                blocks = self._blocks_written([one for one in later if one not in self._dropped])
                size = min(
                    (self.pending[one].size for one in later if self.pending[one].kind == "truncate"), default=None
                )
                if ranges := self._parts_off(index, blocks, size):
                    left[index] = ranges
        return left

    def _blocks_written(self, indices: Iterable[int]) -> set[int]:
        return {
            block for one in indices if self.pending[one].kind == "write" for block in _touched_by(self.pending[one])
        }

    def _parts_off(self, index: int, blocks: set[int], size: int | None = None) -> Ranges:
        """The unsettled parts of a write that are outside of these blocks and below `size`."""
        operation = self.pending[index]
        found: list[tuple[int, int]] = []
        for start, stop in _complement(self._settled.get(index, ()), len(operation.data)):
            for block in _blocks_of(operation.offset + start, operation.offset + stop):
                first = max(block * _BLOCK - operation.offset, start)
                last = min((block + 1) * _BLOCK - operation.offset, stop)
                if size is not None:
                    last = min(last, size - operation.offset)
                if block not in blocks and first < last:
                    found.append((first, last))
        return tuple(found)

    def after(self, lost: frozenset[int], torn: Torn | None, holes: _Holes = _NO_HOLES) -> Content:
        """The content if these changes were lost, one torn, and some have holes; indices of other files are ignored."""
        missing = {index for index in lost if index in self.pending}
        if torn is not None and (torn[0] not in self.pending or torn[1] >= len(self.pending[torn[0]].data)):
            # A write to another file, or torn beyond the part that a later truncate has left.
            torn = None
        if holes or self._dropped:
            holes = {index: ranges for index, ranges in holes.items() if index in self.pending}
            holes = self._with_pages_taken_along(missing, holes)
        if not missing and torn is None and not holes:
            return self._with_first(len(self.pending))
        wrong = {*missing, *holes, torn[0]} if torn else {*missing, *holes}
        first = bisect.bisect_left(self._order, min(wrong))
        if torn is None and not holes and len(missing) == len(self._order) - first:
            return self._with_first(first)
        if self._is_only_written and len(wrong) <= _FEW and (torn is None or self._damaged_bytes is None):
            return self._without(missing, torn, holes)
        draft = Draft(self._with_first(first))
        for index in self._order[first:]:
            if index not in missing:
                self._apply(draft, index, torn, holes.get(index, ()))
        return draft.done()

    def _with_pages_taken_along(self, missing: set[int], holes: _Holes) -> _Holes:
        """Keep the parts of lost dropped writes whose pages a later, kept write has written as a whole."""
        for index in sorted(missing & self._dropped):
            kept = [one for one in self._order if one > index and one not in self._dropped and one not in missing]
            if blocks := self._blocks_written(kept) & set(_touched_by(self.pending[index])):
                missing.discard(index)
                holes = {**holes, index: self._parts_off(index, blocks)}
        return holes

    def _with_first(self, count: int) -> Content:
        """The content after the first `count` changes."""
        if count not in self._grown:
            start = max(one for one in self._grown if one < count)
            draft = Draft(self._grown[start])
            for index in self._order[start:count]:
                self._apply(draft, index)
            if len(self._grown) >= _MOST_GROWN:
                # Each has a list of all blocks: keep only every eighth.
                self._grown = {one: self._grown[one] for one in sorted(self._grown)[::8]}
            self._grown[count] = draft.done()
        return self._grown[count]

    def _apply(self, draft: Draft, index: int, torn: Torn | None = None, holes: Ranges = ()) -> None:
        """Apply one change; of a torn write only the kept bytes, of one with holes only the rest."""
        operation = self.pending[index]
        if operation.kind == "truncate":
            draft.resize(operation.size)
            return
        kept = torn[1] if torn is not None and torn[0] == index else None
        for offset, data in self._fragments(index, kept, holes):
            draft.write(offset, data)
        if holes and _end_of(operation) > draft.size:
            draft.resize(_end_of(operation))
        if kept is not None and self._damaged_bytes is not None:
            end = operation.offset + kept
            start = end - end % self._damaged_bytes
            stop = min(start + self._damaged_bytes, max(draft.size, operation.offset + len(operation.data)))
            draft.write(start, _GARBAGE * (stop - start))

    def _fragments(self, index: int, kept: int | None, holes: Ranges) -> Sequence[tuple[int, bytes]]:
        """A write as (offset, data) pieces: its first `kept` bytes (None: all), without holes and settled parts."""
        operation = self.pending[index]
        data = operation.data if kept is None else operation.data[:kept]
        missing = (*holes, *self._settled.get(index, ()))
        if not missing:
            return ((operation.offset, data),)
        return [(operation.offset + start, data[start:stop]) for start, stop in _complement(missing, len(data))]

    def _without(self, missing: set[int], torn: Torn | None, holes: _Holes) -> Content:
        """The content if all changes are writes: only blocks touched by missing, torn or holed writes are rebuilt."""
        whole = self._with_first(len(self.pending))
        draft = Draft(whole)
        size = self._size_without(missing, torn, whole.size)
        if size < whole.size:
            draft.resize(size)
        wrong = {*missing, *holes, torn[0]} if torn else {*missing, *holes}
        for block in {one for index in wrong for one in _touched_by(self.pending[index])}:
            if block * _BLOCK < size:
                draft.replace(block, *self._block_without(block, missing, torn, holes, size))
        return draft.done()

    def _block_without(
        self, block: int, missing: set[int], torn: Torn | None, holes: _Holes, size: int
    ) -> tuple[bytes, bytes]:
        """One block and its digest, for a content of this size."""
        changes = tuple([index for index in self._by_block[block] if index not in missing])
        length = min(_BLOCK, size - block * _BLOCK)
        parts = tuple([(index, holes[index]) for index in changes if index in holes]) if holes else ()
        key = (block, changes, torn if torn and torn[0] in changes else None, parts, length)
        known = self._made.get(key)
        if known is None:
            durable = self.durable.blocks[block] if block < len(self.durable.blocks) else b""
            made = bytearray(durable.ljust(length, b"\0"))
            for index in changes:
                kept = torn[1] if torn and torn[0] == index else None
                for offset, data in self._fragments(index, kept, holes.get(index, ())):
                    if offset < (block + 1) * _BLOCK:
                        at, piece = _part_in(block, offset, data)
                        made[at : at + len(piece)] = piece
            if len(self._made) >= _MOST_MADE:
                self._made.clear()
            known = self._made[key] = bytes(made), _digest(made)
        return known

    def _size_without(self, missing: set[int], torn: Torn | None, whole: int) -> int:
        """The file's size; only a change that reaches its end can have extended it."""
        wrong = {*missing, torn[0]} if torn else missing
        if all(_end_of(self.pending[index]) < whole for index in wrong):
            return whole
        ends = [_end_of(operation) for index, operation in self.pending.items() if index not in wrong]
        if torn:
            ends.append(self.pending[torn[0]].offset + torn[1])
        return max(self.durable.size, *ends) if ends else self.durable.size


def _complement(ranges: Ranges, size: int) -> Ranges:
    """The ranges of `size` bytes that are not in `ranges`."""
    left: list[tuple[int, int]] = []
    at = 0
    for start, stop in sorted(ranges):
        if start > at:
            left.append((at, min(start, size)))
        at = max(at, stop)
    if at < size:
        left.append((at, size))
    return tuple([(start, stop) for start, stop in left if start < stop])


def _blocks_of(begin: int, end: int) -> range:
    """The blocks that contain these bytes."""
    return range(begin // _BLOCK, -(-end // _BLOCK)) if begin < end else range(0)


def _part_in(block: int, offset: int, data: bytes) -> tuple[int, bytes]:
    """The piece of data (at an offset of the file) that falls into a block, with its position in the block."""
    begin = block * _BLOCK - offset
    return max(-begin, 0), data[max(begin, 0) : begin + _BLOCK]


def _touched_by(write: Operation) -> range:
    return _blocks_of(write.offset, _end_of(write))


def _end_of(write: Operation) -> int:
    return write.offset + len(write.data)


def _digest(data: bytes | bytearray) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
