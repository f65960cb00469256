"""Reads the schema version from a write-ahead log without SQLite.

A database whose newest schema version is only in its WAL looks old by its header. Reading it through SQLite would be a
write: closing the last connection copies the WAL into the file. So this module reads the frames: the newest committed
copy of page 1 of the log's current generation (same salts) has the version. Checksums distinguish torn frames from
complete ones; computing them is slow, so it is done only if the result matters. The format is SQLite's:
https://sqlite.org/fileformat2.html#walformat

Not covered: a log that another process is writing to at the same moment; the version is read again through SQLite once
the database is open.
"""

import os
import struct
from array import array
from pathlib import Path
from sys import byteorder
from typing import BinaryIO, Final, NamedTuple

USER_VERSION_OFFSET: Final = 60
"""The offset of `PRAGMA user_version` in the first page: four bytes, big-endian and signed."""

_HEADER: Final = struct.Struct(">IIIIIIII")
_FRAME: Final = struct.Struct(">IIIIII")
_MAGIC: Final = 0x377F0682
_PAGE_SIZES: Final = frozenset(1 << power for power in range(9, 17))
_PAGE_1: Final = b"\0\0\0\1"
_SALTS: Final = slice(16, 24)
# In a frame's head.
_WHOSE: Final = slice(8, 16)
_FRAME_BYTES: Final = _FRAME.size


class _Log(NamedTuple):
    """The fields of a log's header; `sums` is the running checksum at its end."""

    page_size: int
    salts: bytes
    order: str
    sums: tuple[int, int]


def user_version(wal: Path, newer_than: int) -> int | None:
    """The committed schema version in a log, if it is greater than `newer_than`; else None.

    Also None if there is no log or it isn't valid: SQLite reports that. Raises `OSError`.
    """
    try:
        with wal.open("rb", buffering=0) as file:
            log = _log(file)
            if log is None or not _has_newer(file, log, newer_than):
                return None
            file.seek(_HEADER.size)
            found = _newest(file, log)
    except FileNotFoundError:
        return None
    return found if found is not None and found > newer_than else None


def _log(file: BinaryIO) -> _Log | None:
    """The header, read at the file's position; None if SQLite treats the log as empty."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, _, page_size, *_, first, second = _HEADER.unpack(header)
    order = "big" if magic & 1 else "little"
    sums = _add(header[:24], (0, 0), order)
    if magic & ~1 != _MAGIC or page_size not in _PAGE_SIZES or sums != (first, second):
        return None
    return _Log(page_size, header[_SALTS], order, sums)


def _has_newer(file: BinaryIO, log: _Log, newer_than: int) -> bool:
    """Whether any frame of the current generation has a newer version, committed or not; checked at every opening.

    Of the other frames only what says whose they are is read: a log may hold megabytes. Tried and worse: sixteen frames
    at a time. An opening takes a few microseconds less, and a crash search a third more CPU time, since it opens each
    disk on which anything differs that the store reads.
    """
    at, size = _HEADER.size, _FRAME_BYTES + log.page_size
    while len(head := os.pread(file.fileno(), _WHOSE.stop, at)) == _WHOSE.stop and head[_WHOSE] == log.salts:
        if head[:4] == _PAGE_1:
            version = os.pread(file.fileno(), 4, at + _FRAME_BYTES + USER_VERSION_OFFSET)
            if int.from_bytes(version, "big", signed=True) > newer_than:
                return True
        at += size
    return False


def _newest(file: BinaryIO, log: _Log) -> int | None:
    """The version in the last committed copy of page 1."""
    found = pending = None
    sums = log.sums
    while len(frame := file.read(_FRAME_BYTES + log.page_size)) == _FRAME_BYTES + log.page_size:
        page_number, size_after, _, _, *ends = _FRAME.unpack_from(frame)
        sums = _add(frame[:8] + frame[_FRAME_BYTES:], sums, log.order)
        if frame[_WHOSE] != log.salts or tuple(ends) != sums:
            break
        pending = _version_in(frame, _FRAME_BYTES) if page_number == 1 else pending
        found = pending if size_after else found
    return found


def _version_in(content: bytes, start: int) -> int:
    """The version in the first page, which begins at `start`."""
    at = start + USER_VERSION_OFFSET
    return int.from_bytes(content[at : at + 4], "big", signed=True)


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
