"""A real block device that logs every write and flush, so that its power can be cut at any entry afterwards.

Method. A process serves one FUSE directory with two files: ``disk``, on which a loop device is made, and ``marks``. The
requests of the file system to that device arrive here as reads, writes and syncs, in order; a flush of the device is a
sync of ``disk``. Writes to ``marks`` are logged between them, and so record the program's progress. It is the method of
the kernel's dm-log-writes, which needs a device mapper. Needs root, ``/dev/fuse``, ``/dev/loop*``.

`Cut.disk` is the device after a power cut: writes before the last flush are kept, each page written later is kept or
lost. Not covered: separate sectors of one page.
"""

import ctypes
import errno
import os
import pickle
import random
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = 4096
# A request or an answer of the kernel's protocol (linux/fuse.h) begins with these.
_IN, _OUT = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
_MOST_BYTES: Final = 128 * 1024
_ROOT, _DISK, _MARKS = 1, 2, 3
_NAMES: Final = {b"disk": _DISK, b"marks": _MARKS}
_INIT, _LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _RELEASE, _FSYNC, _FLUSH = (
    26, 1, 2, 3, 4, 14, 15, 16, 18, 20, 25
)  # fmt: skip
_BATCH_FORGET, _INTERRUPT, _DESTROY, _OPENDIR, _RELEASEDIR = 42, 36, 38, 27, 29
_DIRECT_IO: Final = 1
_OPENED: Final = struct.pack("<QII", 0, _DIRECT_IO, 0)
# Version 7.31; with writes of more than a page, and how many pages that are.
_INITIAL: Final = struct.pack(
    "<IIIIHHIIHHI28x", 7, 31, 0, 1 << 5 | 1 << 22, 12, 9, _MOST_BYTES, 1, _MOST_BYTES // PAGE, 0, 0
)
_ANSWERS: Final = {
    _INIT: _INITIAL, _OPEN: _OPENED, _OPENDIR: _OPENED,
    **dict.fromkeys((_FSYNC, _FLUSH, _RELEASE, _RELEASEDIR, _DESTROY), b""),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log: write, flush or mark; a write's place in bytes, and its or the mark's bytes."""

    kind: str
    at: int = 0
    data: bytes = b""


class LoggedDisk:
    """Serves the two files until the directory is unmounted; `base` is the disk's initial content."""

    def __init__(self, directory: Path, base: bytes) -> None:
        self.log: list[Entry] = []
        self._disk = bytearray(base)
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"logged", os.fsencode(directory), b"fuse", 0, options):
            number = ctypes.get_errno()
            raise OSError(number, f"mounting a FUSE directory: {os.strerror(number)}")

    def serve(self) -> None:
        """Answer requests until there are no more."""
        while True:
            try:
                request = os.read(self._device, _MOST_BYTES + PAGE)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, kind, unique, node, *_ = _IN.unpack_from(request)
            if kind in (_FORGET, _BATCH_FORGET, _INTERRUPT):
                continue
            answer = self._answer(kind, node, request[_IN.size :])
            failed, body = (answer, b"") if isinstance(answer, int) else (0, answer)
            os.write(self._device, _OUT.pack(_OUT.size + len(body), -failed, unique) + body)

    def _answer(self, kind: int, node: int, body: bytes) -> bytes | int:
        """What an operation answers, or the number of an error."""
        found = _NAMES.get(body.rstrip(b"\0"))
        if kind == _LOOKUP and found is None:
            return errno.ENOENT
        if kind in (_READ, _WRITE):
            return self._moved(kind, node, body)
        if kind == _FSYNC and node == _DISK:
            self.log.append(Entry("flush"))
        if kind == _LOOKUP and found is not None:
            return struct.pack("<QQQQII", found, 0, 3600, 3600, 0, 0) + self._attributes(found)
        if kind in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
        return _ANSWERS.get(kind, errno.ENOSYS)

    def _moved(self, kind: int, node: int, body: bytes) -> bytes:
        _, at, size = struct.unpack_from("<QQI", body)
        if kind == _WRITE:
            return self._write(node, at, body[40 : 40 + size])
        return bytes(self._disk[at : at + size]) if node == _DISK else b""

    def _write(self, node: int, at: int, data: bytes) -> bytes:
        if node == _DISK:
            self._disk[at : at + len(data)] = data
        self.log.append(Entry("write" if node == _DISK else "mark", at, data))
        return struct.pack("<II", len(data), 0)

    def _attributes(self, node: int) -> bytes:
        size = len(self._disk) if node == _DISK else 0
        mode = stat.S_IFDIR | 0o700 if node == _ROOT else stat.S_IFREG | 0o600
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)


def served(directory: Path, base: bytes, ready: int, kept: Path) -> None:
    """Serve, in a separate process; reports through a pipe that it is `ready`, and keeps the log in a file."""
    disk = LoggedDisk(directory, base)
    os.write(ready, b"!")
    disk.serve()
    kept.write_bytes(pickle.dumps([(one.kind, one.at, one.data) for one in disk.log]))


@dataclass(frozen=True, slots=True)
class Cut:
    """A power cut after so many entries of a log."""

    after: int

    def marks(self, log: Sequence[Entry]) -> list[bytes]:
        """What had been marked by then."""
        return [one.data for one in log[: self.after] if one.kind == "mark"]

    def disk(self, base: bytes, log: Sequence[Entry], generator: random.Random) -> bytearray:
        """The device as it may be found: all that was flushed, and of the rest each page or not."""
        flushed = max((index for index, one in enumerate(log[: self.after]) if one.kind == "flush"), default=-1)
        share, disk = generator.choice((0.0, 0.5, 0.9, 1.0)), bytearray(base)
        for index, one in enumerate(log[: self.after]):
            if one.kind != "write":
                continue
            for start in range(0, len(one.data), PAGE):
                if index < flushed or generator.random() < share:
                    page = one.data[start : start + PAGE]
                    disk[one.at + start : one.at + start + len(page)] = page
        return disk
