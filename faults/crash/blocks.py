"""A file's content in blocks: hundreds of versions of one file that share whatever is alike in them.

A version is changed into another one in a `Draft`, which copies and digests only the blocks that were touched. So two
contents are compared by their digests, and the bytes are put together only for whoever reads them.

`ChangedFile` knows what a crash can make of one file: its durable content, and the changes that nothing has synced.
Most crashes lose a few changes of many. Where all of these are writes, only the blocks that the lost ones touch are
made anew; otherwise everything after the first lost one is done again, from the content before it.
"""

import bisect
import hashlib
from collections import defaultdict
from typing import Final

from tornpage.faults.vfs.operation_log import Operation

Torn = tuple[int, int]
"""The index of a write that was torn, and how many of its bytes reached the disk."""

_BLOCK: Final = 4096
_GARBAGE: Final = b"\xa5"
# To make single blocks anew pays for so many lost changes.
_FEW: Final = 4
_MOST_MADE: Final = 4096
_MOST_GROWN: Final = 256


class Content:
    """Bytes in blocks, with the digest of each and of it all; `digest` is equal where the bytes are. Never changed."""

    __slots__ = ("blocks", "digest", "digests", "size")

    def __init__(self, blocks: list[bytes], digests: list[bytes], size: int) -> None:
        # All blocks but the last one are full.
        self.blocks = blocks
        self.digests = digests
        self.size = size
        self.digest = _digest(b"%d %b" % (size, b"".join(digests)))

    @classmethod
    def of(cls, data: bytes) -> "Content":
        """The content of these bytes."""
        draft = Draft(cls([], [], 0))
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
    """

    def __init__(self, content: bytes, damaged_bytes: int | None = None) -> None:
        self._damaged_bytes = damaged_bytes
        self._begin(Content.of(content))

    def _begin(self, durable: Content) -> None:
        self.durable = durable
        self.pending: dict[int, Operation] = {}
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
            for block in _blocks_of(operation.offset, operation.offset + len(operation.data)):
                self._by_block[block].append(index)

    def sync(self) -> None:
        """All of it is durable now."""
        self._begin(self._with_first(len(self.pending)))

    def after(self, lost: frozenset[int], torn: Torn | None) -> Content:
        """What is there if these of the changes, and maybe of others' files, were lost, and one was torn."""
        missing = {index for index in lost if index in self.pending}
        if torn is not None and torn[0] not in self.pending:
            torn = None
        if not missing and torn is None:
            return self._with_first(len(self.pending))
        wrong = {*missing, torn[0]} if torn else missing
        first = bisect.bisect_left(self._order, min(wrong))
        if torn is None and len(missing) == len(self._order) - first:
            return self._with_first(first)
        if self._is_only_written and len(wrong) <= _FEW and (torn is None or self._damaged_bytes is None):
            return self._without(missing, torn)
        draft = Draft(self._with_first(first))
        for index in self._order[first:]:
            if index not in missing:
                self._apply(draft, self.pending[index], torn[1] if torn and torn[0] == index else None)
        return draft.done()

    def _with_first(self, count: int) -> Content:
        """The content with so many of the changes done."""
        if count not in self._grown:
            start = max(one for one in self._grown if one < count)
            draft = Draft(self._grown[start])
            for index in self._order[start:count]:
                self._apply(draft, self.pending[index])
            if len(self._grown) >= _MOST_GROWN:
                # Each has a list of all blocks: some of many will do.
                self._grown = {one: self._grown[one] for one in sorted(self._grown)[::8]}
            self._grown[count] = draft.done()
        return self._grown[count]

    def _apply(self, draft: Draft, operation: Operation, kept: int | None = None) -> None:
        """Do one change; of a torn write as much as was `kept`."""
        if operation.kind == "truncate":
            draft.resize(operation.size)
            return
        draft.write(operation.offset, operation.data if kept is None else operation.data[:kept])
        if kept is not None and self._damaged_bytes is not None:
            end = operation.offset + kept
            start = end - end % self._damaged_bytes
            stop = min(start + self._damaged_bytes, max(draft.size, operation.offset + len(operation.data)))
            draft.write(start, _GARBAGE * (stop - start))

    def _without(self, missing: set[int], torn: Torn | None) -> Content:
        """All changes are writes: only blocks that one of the missing or torn ones touches can differ."""
        whole = self._with_first(len(self.pending))
        draft = Draft(whole)
        size = self._size_without(missing, torn, whole.size)
        if size < whole.size:
            draft.resize(size)
        wrong = {*missing, torn[0]} if torn else missing
        for block in {one for index in wrong for one in _touched_by(self.pending[index])}:
            if block * _BLOCK < size:
                draft.replace(block, *self._block_without(block, missing, torn, size))
        return draft.done()

    def _block_without(self, block: int, missing: set[int], torn: Torn | None, size: int) -> tuple[bytes, bytes]:
        """One block, and its digest, of a content of that size."""
        changes = tuple([index for index in self._by_block[block] if index not in missing])
        length = min(_BLOCK, size - block * _BLOCK)
        key = (block, changes, torn if torn and torn[0] in changes else None, length)
        known = self._made.get(key)
        if known is None:
            durable = self.durable.blocks[block] if block < len(self.durable.blocks) else b""
            made = bytearray(durable.ljust(length, b"\0"))
            for index in changes:
                operation = self.pending[index]
                data = operation.data[: torn[1]] if torn and torn[0] == index else operation.data
                at, piece = _part_in(block, operation.offset, data)
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
