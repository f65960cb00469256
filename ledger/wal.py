"""Reading one number out of a write-ahead log without SQLite: the schema version that it would give the database.

A database whose newest schema version lies only in its WAL looks old by its header. Asking SQLite would be a write:
whoever closes the last connection copies the WAL into the file. So the frames are walked here: the newest committed
copy of page 1 that belongs to the log's present generation (same salts) has the answer. Checksums tell a torn frame
from a whole one; adding them up is slow, so it is done only where the answer matters. The format is SQLite's:
https://sqlite.org/fileformat2.html#walformat

Not covered: a log that another process is writing to at this very moment; the version is asked for again through SQLite
once the database is open.
"""

import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from sys import byteorder
from typing import BinaryIO, Final

USER_VERSION_OFFSET: Final = 60
"""Where the first page has `PRAGMA user_version`, four bytes, big-endian and signed."""

_HEADER: Final = struct.Struct(">IIIIIIII")
_FRAME: Final = struct.Struct(">IIIIII")
_MAGIC: Final = 0x377F0682
_PAGE_SIZES: Final = frozenset(1 << power for power in range(9, 17))
_VERSION_END: Final = USER_VERSION_OFFSET + 4


def user_version(wal: Path, newer_than: int) -> int | None:
    """The committed schema version in a log, where it is greater than `newer_than`; else None.

    None, too, where there is no log or it isn't one: that is for SQLite to say. Raises `OSError`.
    """
    try:
        with wal.open("rb") as file:
            if not any(number == 1 and version > newer_than for number, _, version in _frames(file, checked=False)):
                return None
            found = _newest(file)
    except FileNotFoundError:
        return None
    return found if found is not None and found > newer_than else None


def _newest(file: BinaryIO) -> int | None:
    """The version in the last committed copy of page 1."""
    found = pending = None
    for page_number, is_commit, version in _frames(file, checked=True):
        pending = version if page_number == 1 else pending
        found = pending if is_commit else found
    return found


def _frames(file: BinaryIO, *, checked: bool) -> Iterator[tuple[int, bool, int]]:
    """Page number, whether it ends a transaction, and the version the page would have as page 1, of each frame."""
    file.seek(0)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return
    magic, _, page_size, _, *salts, first, second = _HEADER.unpack(header)
    order = "big" if magic & 1 else "little"
    sums = _add(header[:24], (0, 0), order)
    # SQLite takes a log with a broken header for an empty one.
    if magic & ~1 != _MAGIC or page_size not in _PAGE_SIZES or sums != (first, second):
        return
    size = _FRAME.size + (page_size if checked else _VERSION_END)
    while len(frame := file.read(size)) == size:
        page_number, size_after, *rest = _FRAME.unpack_from(frame)
        if rest[:2] != salts:
            return
        page = frame[_FRAME.size :]
        if checked:
            sums = _add(frame[:8] + page, sums, order)
            if rest[2:] != list(sums):
                return
        else:
            file.seek(page_size - _VERSION_END, 1)
        yield page_number, size_after != 0, int.from_bytes(page[USER_VERSION_OFFSET:_VERSION_END], "big", signed=True)


def _add(content: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """SQLite's running checksum over pairs of 32-bit words."""
    words = array("I", content)
    if order != byteorder:
        words.byteswap()
    first, second = sums
    for i in range(0, len(words), 2):
        first = (first + words[i] + second) & 0xFFFFFFFF
        second = (second + words[i + 1] + first) & 0xFFFFFFFF
    return first, second
