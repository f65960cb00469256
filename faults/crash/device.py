"""What the disk and the system above it may do to an unsynced write."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeVar

from tornpage.faults.vfs.operation_log import Operation

FAILED_SYNCS: Final = ("keeps", "drops")
_MOST_TEARS_A_WRITE: Final = 8
_MOST_HOLES_A_WRITE: Final = 6
_LOGS: Final = ("-wal", "-journal")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Device:
    """The guarantees of a disk and of the operating system above it.

    `sector_bytes`: a write can tear at multiples of it; `powersafe_overwrite`: a torn write leaves the rest of its
    sectors unchanged; `atomic_write_bytes`: aligned writes of up to this size are atomic. `page_bytes`: the
    system writes a file back in pages of this size, in any order (0: each write from its beginning to its end).
    `sized_first`: a file may be extended with zeros before its new data arrives, or all after one of its sectors.
    `failed_sync`: what happens to changes whose sync failed: "keeps" (the next sync writes them), "drops" (the system
    marks them as clean, so the next sync reports success without writing them: Linux).
    """

    sector_bytes: int = 512
    powersafe_overwrite: bool = True
    atomic_write_bytes: int = 0
    page_bytes: int = 4096
    sized_first: bool = True
    failed_sync: Literal["keeps", "drops"] = "keeps"

    def __post_init__(self) -> None:
        if self.sector_bytes < 1 or self.atomic_write_bytes < 0 or self.page_bytes < 0:
            raise ValueError(f"a device needs sectors of at least one byte, no negative atomic write or page: {self}")
        if self.failed_sync not in FAILED_SYNCS:
            raise ValueError(f"failed_sync is {self.failed_sync!r}; it is one of: {', '.join(FAILED_SYNCS)}")

    def tears(self, write: Operation, *, every: bool = False) -> list[int]:
        """The possible sizes, in bytes, of a torn write; a sample if there are many, unless `every`.

        0 is included only without powersafe overwrite: the first sector was being written, and its old contents are
        lost.
        """
        size, sector = len(write.data), self.sector_bytes
        if self._is_atomic(write):
            return []
        cuts = [] if self.powersafe_overwrite or not size else [0]
        cuts += range(sector - write.offset % sector, size, sector)
        return cuts if every else spread(cuts, _MOST_TEARS_A_WRITE)

    def holes(self, write: Operation, size_bytes: int, *, every: bool = False) -> list[tuple[int, int]]:
        """The parts of a write, as (start, stop) in its data, that may be missing although later parts are present.

        `size_bytes` is the durable size of the file: beyond it, all after a page or a sector may be missing (zeros) up
        to the end of the write. That all is missing is always included.
        """
        size, page = len(write.data), self.page_bytes
        cuts = list(range(page - write.offset % page, size, page)) if page and not self._is_atomic(write) else []
        # Each page alone; the first is a beginning, too, and `tears` covers the last.
        pages = [(0, cut) for cut in cuts] + (list(pairwise((*cuts, size)))[:-1] if cuts else [])
        if not self.sized_first or write.offset + size <= size_bytes:
            return pages if every else spread(pages, _MOST_HOLES_A_WRITE)
        # SQLite's own logs have checksums: of them, sectors are tried only with every state.
        within = self.tears(write, every=True) if every or not write.path.endswith(_LOGS) else ()
        ends = [(cut, size) for cut in sorted({*cuts, *within} - {0})]
        if every:
            return [*pages, (0, size), *ends]
        return [*spread(pages, _MOST_HOLES_A_WRITE // 2), (0, size), *spread(ends, _MOST_HOLES_A_WRITE // 2)]

    def _is_atomic(self, write: Operation) -> bool:
        size = len(write.data)
        return size <= self.atomic_write_bytes and write.offset % max(size, 1) == 0


def spread(them: list[_T], most: int) -> list[_T]:
    """At most `most` elements, evenly spread, with the first and the last."""
    if len(them) <= most:
        return them
    step = (len(them) - 1) / (most - 1)
    return [them[round(index * step)] for index in range(most)]
