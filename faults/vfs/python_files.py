"""Plain files on the tape: what Python code does to files itself, beside SQLite.

Method. Inside the scope a handful of functions of `os` tell the tape what they did, and ``open`` of a file below the
tape's directory gives Python's own implementation of it (`_pyio`), which goes through those functions. So a store that
writes JSON and renames it has a crash model, too, and its operations stand on the tape in order with SQLite's.

A descriptor stands for its file: it follows a rename, and a file without a name is no file of the tape any more.

Not covered: what goes round `os` (memory maps, ``sendfile``, hard links, C extensions other than SQLite), files that
were open before, changes through a descriptor of a deleted or replaced file, and renamed directories. Those that leave
other files than the tape says are noticed when tape and directory are compared.
"""

import _pyio  # type: ignore[import-not-found]
import builtins
import contextlib
import functools
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from tornpage.faults.vfs.operation_log import Operation, Tape


@contextlib.contextmanager
def recording(tape: Tape) -> Iterator[None]:
    """Tell `tape` of changes to plain files made through `os` and ``open``; not for two threads at once."""
    files = _PlainFiles(tape)
    with contextlib.ExitStack() as stack:
        for name in ("open", "close", "write", "pwrite", "truncate", "ftruncate", "fsync", "fdatasync"):
            if hasattr(os, name):
                told = getattr(files, name.removeprefix("f") if name == "fdatasync" else name)
                stack.enter_context(mock.patch.object(os, name, _telling(getattr(os, name), told)))
        for name in ("unlink", "remove", "rename", "replace"):
            stack.enter_context(mock.patch.object(os, name, _telling(getattr(os, name), getattr(files, name))))
        whole = functools.partial(files.open_whole, io.open)
        stack.enter_context(mock.patch.object(io, "open", whole))
        stack.enter_context(mock.patch.object(builtins, "open", whole))
        yield


def _telling(function: Callable[..., Any], tell: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with `tell` wrapped round each call of it."""

    @functools.wraps(function)
    def told(*args: Any, **kwargs: Any) -> Any:
        return tell(functools.partial(function, *args, **kwargs), *args, **kwargs)

    return told


class _PlainFiles:
    """Which descriptor is which file of the tape; each method makes one call and writes down what it did.

    The parameters have the names that `os` gives them: callers may use those.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        # A file's or a directory's name below the tape's own directory, "" for that itself, and the file's identity:
        # a descriptor that was closed behind our back may have become somebody else's.
        self._names: dict[int, tuple[str, tuple[int, int]]] = {}

    def _name(self, path: Any, directory: int | None = None) -> str | None:
        """The name of a path, or of a descriptor; None for a file of somebody else's."""
        if isinstance(path, int):
            return self._name_of_open(path)
        given = os.fsdecode(path)
        if directory is not None and not os.path.isabs(given):  # noqa: PTH117 - on a hot path
            # A path that is relative to an open directory.
            above = self._name_of_open(directory)
            return None if above is None else os.path.normpath(os.path.join(above, given)).removeprefix(".")  # noqa: PTH118
        full = os.path.join(os.path.realpath(os.path.dirname(given)), os.path.basename(given))  # noqa: PTH118, PTH119, PTH120
        return "" if full.rstrip(os.sep) == self._tape.root else self._tape.relative(full)

    def _name_of_open(self, descriptor: int) -> str | None:
        known = self._names.get(descriptor)
        if known is not None and known[1] == _identity_of(descriptor):
            return known[0]
        return None

    def _opened_unseen(self, descriptor: int) -> str | None:
        """The name of a file that was opened in a way that tells nobody, such as ``open`` for reading."""
        try:
            return self._name(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - on a hot path
        except OSError:
            return None

    def open_whole(self, function: Callable[..., Any], file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        writes = any(letter in mode for letter in "wax+")
        return (_pyio.open if writes and self._name(file) is not None else function)(file, mode, *args, **kwargs)

    def open(
        self,
        call: Callable[[], int],
        path: Any,
        flags: int,
        mode: int = 0o777,  # noqa: ARG002 - a name that callers may use
        *,
        dir_fd: int | None = None,
    ) -> int:
        name = self._name(path, dir_fd)
        existed = name is not None and _is_there(path, dir_fd)
        descriptor = call()
        self._names.pop(descriptor, None)
        if name is not None:
            self._names[descriptor] = name, _identity_of(descriptor)
            if not existed:
                self._tape.add(Operation("create", name))
            elif flags & os.O_TRUNC:
                self._tape.add(Operation("truncate", name))
        return descriptor

    def close(self, call: Callable[[], None], fd: int) -> None:
        self._names.pop(fd, None)
        call()

    def write(self, call: Callable[[], int], fd: int, data: Any, /) -> int:
        written = call()
        if name := self._name_of_open(fd):
            offset = os.lseek(fd, 0, os.SEEK_CUR) - written
            self._tape.add(Operation("write", name, offset, _first(data, written)))
        return written

    def pwrite(self, call: Callable[[], int], fd: int, buffer: Any, offset: int, /) -> int:
        written = call()
        if name := self._name_of_open(fd):
            self._tape.add(Operation("write", name, offset, _first(buffer, written)))
        return written

    def truncate(self, call: Callable[[], None], path: Any, length: int) -> None:
        call()
        if name := self._name(path):
            self._tape.add(Operation("truncate", name, size=length))

    def ftruncate(self, call: Callable[[], None], fd: int, length: int, /) -> None:
        self.truncate(call, fd, length)

    def fsync(self, call: Callable[[], None], fd: Any) -> None:
        call()
        descriptor = fd if isinstance(fd, int) else fd.fileno()
        name = self._name_of_open(descriptor)
        if name is None:
            name = self._opened_unseen(descriptor)
        if name is not None:
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self._tape.add(Operation("syncdir" if is_directory else "sync", name))

    datasync = fsync

    def unlink(self, call: Callable[[], None], path: Any, *, dir_fd: int | None = None) -> None:
        call()
        if name := self._name(path, dir_fd):
            self._tape.add(Operation("delete", name))
            self._renamed(name, None)

    remove = unlink

    def rename(
        self,
        call: Callable[[], None],
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        call()
        source, destination = self._name(src, src_dir_fd), self._name(dst, dst_dir_fd)
        if source and destination == source:
            return
        if source and destination:
            self._tape.add(Operation("rename", source, other=destination))
            self._renamed(destination, None)
            self._renamed(source, destination)
        elif source:
            self._tape.add(Operation("delete", source))
            self._renamed(source, None)

    replace = rename

    def _renamed(self, old: str, new: str | None) -> None:
        """Let the descriptors of a file follow it to its new name, or to none."""
        for descriptor, (name, identity) in list(self._names.items()):
            if name == old:
                if new is None:
                    del self._names[descriptor]
                else:
                    self._names[descriptor] = new, identity


def _identity_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _is_there(path: Any, directory: int | None) -> bool:
    try:
        os.lstat(path, dir_fd=directory)
    except OSError:
        return False
    return True


def _first(data: Any, count: int) -> bytes:
    return bytes(memoryview(data).cast("B")[:count])
