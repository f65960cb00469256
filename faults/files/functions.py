"""Replacements for functions of `os`, all of one shape: find the file, ask the injectors, call the original, record.

A write is recorded with its bytes and its offset, whichever function makes it. Through a descriptor that was opened
with ``O_SYNC`` or ``O_DSYNC`` it is durable when the call returns. Functions that only read are in `reads`.
"""

import contextlib
import fcntl
import functools
import os
import stat
from collections.abc import Callable, Sequence
from typing import Any, Final

from tornpage.faults.files import names
from tornpage.faults.files.links import leads_out, target_in
from tornpage.faults.files.watch import WATCH
from tornpage.faults.vfs.operation_log import Operation, unnamed_in

Function = Callable[..., Any]

_SYNCED: Final = getattr(os, "O_DSYNC", 0) | getattr(os, "O_SYNC", 0)
_SYNCED_WRITE: Final = getattr(os, "RWF_DSYNC", 0) | getattr(os, "RWF_SYNC", 0)
_NAMELESS: Final = getattr(os, "O_TMPFILE", 0)

# Files that were created without a name, by device and inode: `link` may name them later.
_unnamed: dict[names.Identity, str] = {}


def path_of(descriptor: int) -> str | None:
    """The full path of an open file; for one that never had a name, its placeholder (`unnamed_in`)."""
    path = names.of_descriptor(descriptor)
    if path is None and _unnamed:
        try:
            return _unnamed.get(names.identity_of(descriptor))
        except OSError:
            return None
    return path


# -- opening, closing ----------------------------------------------------------------------------------------


def _open(original: Function, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    call = functools.partial(original, path, flags, mode, dir_fd=dir_fd)
    where = names.of_path(path, dir_fd, follow=not flags & os.O_NOFOLLOW)
    unnamed = bool(_NAMELESS) and flags & _NAMELESS == _NAMELESS
    existed = where is not None and not unnamed and os.path.exists(where)  # noqa: PTH110 - on a hot path
    if where is None or not (existed or unnamed or flags & os.O_CREAT):
        # Its path is unknown, or the file doesn't exist and is not created.
        return call()  # type: ignore[no-any-return]
    if unnamed:
        where = unnamed_in(where, len(_unnamed) + 1)
    role = names.DIRECTORY if existed and os.path.isdir(where) else ""  # noqa: PTH112
    descriptor: int = WATCH.perform("file-open" if existed else "file-create", where, call, path, role=role)
    if unnamed:
        _unnamed[names.identity_of(descriptor)] = where
    if not existed:
        WATCH.record(where, lambda name: [Operation("create", name)])
    elif flags & os.O_TRUNC:
        WATCH.record(where, lambda name: [Operation("truncate", name)])
    return descriptor


def closing(descriptor: int, close: Callable[[], None]) -> None:
    """Close a descriptor; closing one that is open only for reading can't fail."""
    path = path_of(descriptor)
    if path is None or not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE:
        close()
    else:
        WATCH.perform("file-close", path, close)


def _close(original: Function, fd: int) -> None:
    closing(fd, functools.partial(original, fd))


# -- writing -------------------------------------------------------------------------------------------------


def writing(
    descriptor: int,
    data: Any,
    write: Callable[[Any], int | None],
    offset: int | None = None,
    *,
    synced: bool = False,
) -> int | None:
    """Write bytes-like `data`, all or part of it, through `write`; at `offset`, or at the descriptor's position."""
    path = path_of(descriptor)
    if path is None:
        return write(data)
    whole, written = memoryview(data).cast("B"), 0

    def do(size: int | None) -> int:
        nonlocal written
        written = write(data if size is None else whole[:size]) or 0
        if WATCH.tapes:
            _record_write(descriptor, path, bytes(whole[:written]), offset, synced=synced)
        return written

    try:
        return WATCH.perform_write(path, whole.nbytes, do)
    except OSError:
        if offset is None:
            _step_back(descriptor, written)
        raise


def _step_back(descriptor: int, size: int) -> None:
    """A call that reports an error leaves the position where it was, whatever it has written."""
    if size:
        with contextlib.suppress(OSError):
            os.lseek(descriptor, -size, os.SEEK_CUR)


def _record_write(descriptor: int, path: str, data: bytes, offset: int | None, *, synced: bool = False) -> None:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if offset is not None and flags & os.O_APPEND:
        # With O_APPEND, Linux ignores the offset and appends.
        at = os.fstat(descriptor).st_size - len(data)
    else:
        at = os.lseek(descriptor, 0, os.SEEK_CUR) - len(data) if offset is None else offset
    synced = synced or bool(flags & _SYNCED)
    WATCH.record(
        path, lambda name: [Operation("write", name, at, data)] + ([Operation("sync", name)] if synced else [])
    )


def _write(original: Function, fd: int, data: Any, /) -> int | None:
    return writing(fd, data, functools.partial(original, fd))


def _pwrite(original: Function, fd: int, buffer: Any, offset: int, /) -> int | None:
    return writing(fd, buffer, lambda data: original(fd, data, offset), offset)


def _writev(original: Function, fd: int, buffers: Sequence[Any], /) -> int | None:
    joined = b"".join(buffers)
    return writing(fd, joined, lambda data: original(fd, _as_given(buffers, joined, data)))


def _pwritev(original: Function, fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int | None:
    joined, synced = b"".join(buffers), bool(flags & _SYNCED_WRITE)

    def write(data: Any) -> int:
        return original(fd, _as_given(buffers, joined, data), offset, flags)  # type: ignore[no-any-return]

    return writing(fd, joined, write, offset, synced=synced)


def _as_given(buffers: Sequence[Any], joined: bytes, data: Any) -> Sequence[Any]:
    """The buffers themselves if all of them are written: for ``O_DIRECT`` they are aligned, and a copy isn't."""
    return buffers if data is joined else [data]


def _sendfile(original: Function, out_fd: int, in_fd: int, offset: int | None, count: int, *more: Any) -> int:
    def copy(size: int) -> int:
        return original(out_fd, in_fd, offset, size, *more)  # type: ignore[no-any-return]

    return _copying(in_fd, out_fd, count, copy, offset, None)


def _copy_file_range(
    original: Function, src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
) -> int:
    def copy(size: int) -> int:
        return original(src, dst, size, offset_src, offset_dst)  # type: ignore[no-any-return]

    return _copying(src, dst, count, copy, offset_src, offset_dst)


def _copying(
    source: int, destination: int, count: int, copy: Callable[[int], int], begin: int | None, offset: int | None
) -> int:
    """Copy inside the kernel; the recorded bytes are read from the source."""
    path = path_of(destination)
    if WATCH.readers:
        WATCH.note_read(path_of(source))
    if path is None:
        return copy(count)
    start = os.lseek(source, 0, os.SEEK_CUR) if begin is None else begin
    left, copied = os.fstat(source).st_size - start, 0

    def do(size: int | None) -> int:
        nonlocal copied
        copied = copy(count if size is None else size)
        if WATCH.tapes and copied:
            _record_write(destination, path, os.pread(source, copied, start), offset)
        return copied

    if left <= 0:
        # At the end of the source nothing is written, so no fault is injected.
        return do(None)
    try:
        return WATCH.perform_write(path, min(count, left), do)
    except OSError:
        if offset is None:
            _step_back(destination, copied)
        if begin is None:
            _step_back(source, copied)
        raise


def _truncate(original: Function, path: Any, length: int) -> None:
    truncating(path_of(path) if isinstance(path, int) else names.of_path(path, follow=True), length,
               functools.partial(original, path, length), path)  # fmt: skip


def _ftruncate(original: Function, fd: int, length: int, /) -> None:
    truncating(path_of(fd), length, functools.partial(original, fd, length))


def truncating(path: str | None, size: int, truncate: Callable[[], Any], *given: Any) -> Any:
    """Truncate or extend a file to `size` bytes."""

    def do() -> Any:
        result = truncate()
        WATCH.record(path, lambda name: [Operation("truncate", name, size=size)])
        return result

    return WATCH.perform("file-truncate", path, do, *(one for one in given if not isinstance(one, int)))


def _posix_fallocate(original: Function, fd: int, offset: int, length: int, /) -> None:
    truncating(path_of(fd), max(os.fstat(fd).st_size, offset + length), lambda: original(fd, offset, length))


# -- syncing -------------------------------------------------------------------------------------------------


def _fsync(original: Function, fd: Any) -> None:
    descriptor = fd if isinstance(fd, int) else fd.fileno()
    path = path_of(descriptor)
    if path is None:
        original(fd)
        return
    is_directory = names.is_directory(descriptor)
    kind, role = ("syncdir", names.DIRECTORY) if is_directory else ("sync", "")

    def do() -> None:
        original(fd)
        WATCH.record(path, lambda name: [Operation(kind, name)])

    try:
        WATCH.perform("file-fsync", path, do, role=role)
    except OSError:
        if not is_directory:
            WATCH.record(path, lambda name: [Operation("failsync", name)])
        raise


def _sync(original: Function) -> None:
    original()
    # Linux returns after all data is written; other systems may return earlier, and a store can't rely on it there.
    for tape in WATCH.tapes:
        tape.add(Operation("syncall", ""))


# -- names ---------------------------------------------------------------------------------------------------


def _unlink(original: Function, path: Any, *, dir_fd: int | None = None) -> None:
    where = names.of_path(path, dir_fd)

    def do() -> None:
        original(path, dir_fd=dir_fd)
        WATCH.record(where, lambda name: [Operation("delete", name)])

    _perform_where_it_can("file-unlink", where, do, path, can=_is_there(where))


def _rename(
    original: Function, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    source, destination = names.of_path(src, src_dir_fd), names.of_path(dst, dst_dir_fd)

    def do() -> None:
        # A rename between two names of one file does nothing.
        changes = source != destination and not _is_same(source, destination)
        original(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if changes:
            _record_move("rename", source, destination)

    _perform_where_it_can("file-rename", destination, do, src, dst, can=_is_there(source))


def _link(
    original: Function,
    src: Any,
    dst: Any,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    source, destination = names.of_path(src, src_dir_fd), names.of_path(dst, dst_dir_fd)
    if _unnamed:
        status = os.stat(src, dir_fd=src_dir_fd)
        source = _unnamed.get((status.st_dev, status.st_ino), source)

    def do() -> None:
        original(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)
        # It depends on the system and on Python whether a link is followed.
        _record_move("link", source if _is_a_link(destination) else _followed(source), destination)

    WATCH.perform("file-link", destination, do, src, dst)


def _perform_where_it_can(
    kind: str, path: str | None, do: Callable[[], None], *given: Any, can: bool, role: str = ""
) -> None:
    """Perform an operation on names; inject no fault if it fails by itself because the file doesn't exist."""
    if can:
        WATCH.perform(kind, path, do, *given, role=role)
    else:
        do()


def _is_there(path: str | None) -> bool:
    return path is not None and os.path.lexists(path)


def _record_move(kind: str, source: str | None, destination: str | None) -> None:
    """Record a rename or a link; for a file from outside the directory its contents are unknown, so only note it."""
    for tape in WATCH.tapes:
        old = tape.name_of(source) if source is not None else None
        new = tape.name_of(destination) if destination is not None else None
        if old is not None and new is not None:
            tape.add(Operation(kind, old, other=new))
        elif old is not None and kind == "rename":
            tape.add(Operation("delete", old))
        elif new is not None:
            tape.note(f"{new} came from outside of the directory (os.{kind})")


def _is_a_link(path: str | None) -> bool:
    return path is not None and os.path.islink(path)  # noqa: PTH114 - on a hot path


def _followed(path: str | None) -> str | None:
    return os.path.realpath(path) if path is not None and _is_a_link(path) else path


def _is_same(one: str | None, other: str | None) -> bool:
    try:
        first, second = os.lstat(one or ""), os.lstat(other or "")
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino) and not stat.S_ISDIR(first.st_mode)


def _symlink(
    original: Function, src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None
) -> None:
    where = names.of_path(dst, dir_fd)

    def do() -> None:
        original(src, dst, target_is_directory, dir_fd=dir_fd)
        for tape in WATCH.tapes:
            name = tape.relative(where)
            if name is not None and where is not None and leads_out(tape.root, where):
                tape.note(f"{name} is a symbolic link to a file elsewhere (os.symlink)")
            elif name is not None:
                tape.add(Operation("symlink", name, data=target_in(tape.root, os.fsencode(src))))

    _perform_where_it_can("file-link", where, do, src, dst, can=not _is_there(where))


def _mkdir(original: Function, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    where = names.of_path(path, dir_fd)

    def do() -> None:
        original(path, mode, dir_fd=dir_fd)
        WATCH.record(where, lambda name: [Operation("mkdir", name)])

    _perform_where_it_can("file-mkdir", where, do, path, can=not _is_there(where), role=names.DIRECTORY)


def _rmdir(original: Function, path: Any, *, dir_fd: int | None = None) -> None:
    where = names.of_path(path, dir_fd)

    def do() -> None:
        original(path, dir_fd=dir_fd)
        WATCH.record(where, lambda name: [Operation("rmdir", name)])

    _perform_where_it_can("file-rmdir", where, do, path, can=_is_there(where), role=names.DIRECTORY)


BODIES: Final[dict[str, Function]] = {
    "open": _open, "close": _close,
    "write": _write, "pwrite": _pwrite, "writev": _writev, "pwritev": _pwritev,
    "sendfile": _sendfile, "copy_file_range": _copy_file_range,
    "truncate": _truncate, "ftruncate": _ftruncate, "posix_fallocate": _posix_fallocate,
    "fsync": _fsync, "fdatasync": _fsync, "sync": _sync,
    "unlink": _unlink, "remove": _unlink, "rename": _rename, "replace": _rename, "link": _link, "symlink": _symlink,
    "mkdir": _mkdir, "rmdir": _rmdir,
}  # fmt: skip


def forget() -> None:
    """Forget files without a name: no injector or tape watches any more."""
    _unnamed.clear()
