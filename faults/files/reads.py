"""What Python code reads of files: replacements for the functions that read a file, or ask for its end.

They are in place only while reads are noted (`Watch.note_read`). Copies inside the kernel and memory maps are noted by
the functions that watch them for other reasons.

Not covered: the size and times that `os.stat` gives for a path, and reads by C code of its own.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from tornpage.faults.files import names
from tornpage.faults.files.watch import WATCH

Function = Callable[..., Any]


def _note(descriptor: int, offset: int = 0, size: int | None = None) -> None:
    if WATCH.readers:
        # Not `path_of`: a file without a name is found by its identity, and that is a call of `fstat`.
        WATCH.note_read(names.of_descriptor(descriptor), offset, size)


def _note_here(descriptor: int, size: int | None) -> None:
    """Note a read at the position of a descriptor; of a negative size, or None, it is the rest of the file."""
    if not WATCH.readers:
        return
    try:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        # It is a pipe, or closed.
        return
    _note(descriptor, position, None if size is None or size < 0 else size)


def _read(original: Function, fd: int, length: int, /) -> Any:
    _note_here(fd, length)
    return original(fd, length)


def _readv(original: Function, fd: int, buffers: Sequence[Any], /) -> Any:
    _note_here(fd, sum(memoryview(one).nbytes for one in buffers))
    return original(fd, buffers)


def _pread(original: Function, fd: int, length: int, offset: int, /) -> Any:
    _note(fd, offset, length)
    return original(fd, length, offset)


def _preadv(original: Function, fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> Any:
    _note(fd, offset, sum(memoryview(one).nbytes for one in buffers))
    return original(fd, buffers, offset, flags)


def _lseek(original: Function, fd: int, position: int, whence: int, /) -> Any:
    if whence not in {os.SEEK_SET, os.SEEK_CUR}:
        _note(fd)
    return original(fd, position, whence)


def _fstat(original: Function, fd: int) -> Any:
    _note(fd)
    return original(fd)


def _file_read(original: Function, file: Any, size: int | None = -1, /) -> Any:
    if not file.closed:
        _note_here(file.fileno(), size)
    return original(file, size)


def _file_readall(original: Function, file: Any, /) -> Any:
    if not file.closed:
        _note(file.fileno())
    return original(file)


def _file_readinto(original: Function, file: Any, buffer: Any, /) -> Any:
    if not file.closed:
        _note_here(file.fileno(), memoryview(buffer).nbytes)
    return original(file, buffer)


def _file_seek(original: Function, file: Any, position: int, whence: int = os.SEEK_SET, /) -> Any:
    if not file.closed and whence not in {os.SEEK_SET, os.SEEK_CUR}:
        _note(file.fileno())
    return original(file, position, whence)


BODIES: Final[dict[str, Function]] = {
    "read": _read,
    "readv": _readv,
    "pread": _pread,
    "preadv": _preadv,
    "lseek": _lseek,
    "fstat": _fstat,
}
METHODS: Final[dict[str, Function]] = {
    "read": _file_read,
    "readall": _file_readall,
    "readinto": _file_readinto,
    "seek": _file_seek,
}
