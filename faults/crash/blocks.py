"""A file's content in blocks: hundreds of versions of one file that share whatever is alike in them.

A version is changed into another one in a `Draft`, which copies and digests only the blocks that were touched. So two
contents are compared by their digests, and the bytes are put together only where they are read.

`ChangedFile` knows what a crash can make of one file: its durable content, and the changes that nothing has synced.
Most crashes lose a few changes of many. Where all of these are writes, only the blocks that the lost ones touch are
made anew; otherwise everything after the first lost one is done again, from the content before it.
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
"""Parts of a write that did not reach the disk, as (start, stop) in its data; the file is as long as with them."""

_Holes = dict[int, Ranges]
_NO_HOLES: Final[_Holes] = {}

_BLOCK: Final = 4096
_GARBAGE: Final = b"\xa5"
# To make single blocks anew pays for so many lost changes.
_FEW: Final = 4
_MOST_MADE: Final = 4096
_MOST_GROWN: Final = 256
_MOST_CONTENTS: Final = 16


class Content:
    """Bytes in blocks, with the digest of each and of it all; `digest` is equal where the bytes are. Never changed."""

    __slots__ = ("blocks", "digest", "digests", "size")

    def __init__(self, blocks: list[bytes], digests: list[bytes], size: int) -> None:
        # All blocks but the last one are full.
        self.blocks = blocks
        self.digests = digests
        self.size = size
        self.digest = _digest(b"%d %b" % (size, b"".join(digests)))

    @staticmethod
    @functools.lru_cache(maxsize=_MOST_CONTENTS)
    def of(data: bytes) -> "Content":
        """The content of these bytes; many tapes begin with the very same files."""
        draft = Draft(Content([], [], 0))
        draft.write(0, data)
        return draft.done()

    def __bytes__(self) -> bytes:
        return b"".join(self.blocks)


class Draft:
    """A content that is being changed; `size` is in bytes."""

    def __init__(self, start: Content) -> None:
        self.size = start.size
        self._blocks = start.blocks.copy()
        self._digests = start.digests.copy()
        self._touched: set[int] = set()

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes there; what is left out before them becomes zeros."""
        if offset > self.size:
            self.resize(offset)
        end = offset + len(data)
        for index in _blocks_of(offset, end):
            self._put(index, *_part_in(index, offset, data))
        self.size = max(self.size, end)

    def replace(self, index: int, block: bytes, digest: bytes) -> None:
        """Put another block of the same length in the place of one."""
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
        """Cut it off there, or fill it up with zeros."""
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
        """What it has become."""
        for index in self._touched:
            if index < len(self._blocks):
                self._digests[index] = _digest(self._blocks[index])
        return Content(self._blocks, self._digests, self.size)


class ChangedFile:
    """One file: its durable content, and the changes to it since its last sync, in their order.

    `damaged_bytes` is the size of the sectors that a torn write leaves as garbage; None where it damages nothing.

    A sync that failed may have dropped pages (`drop`): the system takes them for clean, so that no later sync writes
    them. They reach the disk only with a later write to the same page, which takes the whole page along.
    """

    def __init__(self, content: bytes, damaged_bytes: int | None = None) -> None:
        self._damaged_bytes = damaged_bytes
        self._begin(Content.of(content))

    def _begin(self, durable: Content) -> None:
        self.durable = durable
        self.pending: dict[int, Operation] = {}
        # Of the pending writes, those whose pages a failed sync has dropped, and what of them is settled since.
        self._dropped: set[int] = set()
        self._settled: _Holes = {}
        # The content with so many of the first changes.
        self._grown = {0: durable}
        self._by_block: defaultdict[int, list[int]] = defaultdict(list)
        # A block, with its digest, by which changes made it.
        self._made: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
        self._order: list[int] = []
        self._is_only_written = True

    def add(self, index: int, operation: Operation) -> None:
        """A write or a truncate, by its index on the tape."""
        self.pending[index] = operation
        self._order.append(index)
        if operation.kind == "truncate":
            self._is_only_written = False
        else:
            for block in _touched_by(operation):
                self._by_block[block].append(index)

    def sync(self) -> None:
        """All of it is durable now, but for pages that were dropped and not written again since."""
        if not self._dropped:
            self._begin(self._with_first(len(self.pending)))
            return
        left = self._still_dropped()
        draft = Draft(self.durable)
        for index in self._order:
            self._apply(draft, index, None, left.get(index, ()))
        # Cut off where the rest is settled: what a later truncate has removed does not come back.
        kept = {
            index: replace(self.pending[index], data=self.pending[index].data[: left[index][-1][1]]) for index in left
        }
        self._begin(draft.done())
        for index, operation in kept.items():
            self.add(index, operation)
            self._dropped.add(index)
            self._settled[index] = _complement(left[index], len(operation.data))

    def drop(self) -> None:
        """A sync has failed: the pages that were to be written are taken for clean from now on."""
        self._dropped.update(index for index, operation in self.pending.items() if operation.kind == "write")

    def _still_dropped(self) -> _Holes:
        """What a sync does not write: of the dropped writes those parts whose pages nothing has written to since."""
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
        """The parts of a write that lie in none of these blocks and not beyond that size, without what is settled."""
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
        """What is there if these of the changes, and maybe of others' files, were lost, one torn, some with holes."""
        missing = {index for index in lost if index in self.pending}
        if torn is not None and (torn[0] not in self.pending or torn[1] >= len(self.pending[torn[0]].data)):
            # Another file's, or beyond what a later truncate has left of it.
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
        """Let a dropped write that is lost keep what is on pages that a later write, which is kept, has taken along."""
        for index in sorted(missing & self._dropped):
            kept = [one for one in self._order if one > index and one not in self._dropped and one not in missing]
            if blocks := self._blocks_written(kept) & set(_touched_by(self.pending[index])):
                missing.discard(index)
                holes = {**holes, index: self._parts_off(index, blocks)}
        return holes

    def _with_first(self, count: int) -> Content:
        """The content with so many of the changes done."""
        if count not in self._grown:
            start = max(one for one in self._grown if one < count)
            draft = Draft(self._grown[start])
            for index in self._order[start:count]:
                self._apply(draft, index)
            if len(self._grown) >= _MOST_GROWN:
                # Each has a list of all blocks: some of many will do.
                self._grown = {one: self._grown[one] for one in sorted(self._grown)[::8]}
            self._grown[count] = draft.done()
        return self._grown[count]

    def _apply(self, draft: Draft, index: int, torn: Torn | None = None, holes: Ranges = ()) -> None:
        """Do one change; of a torn write as much as was kept, of one with holes what is outside of them."""
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
        """Where a write puts what: all of it, or `kept` bytes, without its holes and what is settled of it."""
        operation = self.pending[index]
        data = operation.data if kept is None else operation.data[:kept]
        missing = (*holes, *self._settled.get(index, ()))
        if not missing:
            return ((operation.offset, data),)
        return [(operation.offset + start, data[start:stop]) for start, stop in _complement(missing, len(data))]

    def _without(self, missing: set[int], torn: Torn | None, holes: _Holes) -> Content:
        """All changes are writes: only blocks that a missing or torn one, or one with holes, touches can differ."""
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
        """One block, and its digest, of a content of that size."""
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
        """How long the file is; only a change that reached its end can have made it longer."""
        wrong = {*missing, torn[0]} if torn else missing
        if all(_end_of(self.pending[index]) < whole for index in wrong):
            return whole
        ends = [_end_of(operation) for index, operation in self.pending.items() if index not in wrong]
        if torn:
            ends.append(self.pending[torn[0]].offset + torn[1])
        return max(self.durable.size, *ends) if ends else self.durable.size


def _complement(ranges: Ranges, size: int) -> Ranges:
    """What is left of so many bytes without these parts."""
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
    """The blocks in which these bytes are."""
    return range(begin // _BLOCK, -(-end // _BLOCK)) if begin < end else range(0)


def _part_in(block: int, offset: int, data: bytes) -> tuple[int, bytes]:
    """Of data at an offset, what falls into a block, and where in the block that begins."""
    begin = block * _BLOCK - offset
    return max(-begin, 0), data[max(begin, 0) : begin + _BLOCK]


def _touched_by(write: Operation) -> range:
    return _blocks_of(write.offset, _end_of(write))


def _end_of(write: Operation) -> int:
    return write.offset + len(write.data)


def _digest(data: bytes | bytearray) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
