"""The operation log (a `Tape`): every operation that changed a file, in order, with the bytes written.

Method. The shim records on a tape each operation that succeeded on a file of one directory; `faults.files` records
those on plain Python files. From the files as they were when the tape began and the operations on it,
`faults.crash.states` makes every disk state that a crash could have left.

Syncs are recorded as the unix VFS does them: the first sync of a journal, super-journal or WAL that was opened with the
create flag also syncs its directory; so does a delete that asks for it; nothing else does (``os_unix.c``, `unixSync`
and `unixDelete`).

Not covered: writes through memory mapping, SQLite's files that were open before the tape began, and writes that pass
neither SQLite nor Python's own functions. `Tape.notes` lists events that may have caused such writes, to explain a
difference that is found.
"""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from tornpage.faults.locks import new_lock

# SQLITE_OPEN_CREATE.
_CREATE: Final = 0x4
# What shows that another thread has a file open.
_USES: Final = frozenset({"write", "truncate", "sync"})
# A file without a name stands under this, with a number.
_UNNAMED: Final = "\0unnamed-"
_OPENED_WITH_DIRECTORY: Final = frozenset({"journal", "super", "wal"})

KINDS: Final = frozenset({"open", "write", "truncate", "sync", "delete"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One change. `kind` is create, write, truncate, delete, rename, link, symlink, mkdir, rmdir, sync, syncdir,
    syncall or failsync; `path` is relative.

    A write has its `offset` (bytes) and `data`; a truncate its `size` (bytes); a rename (of a file or a directory) has
    the new name in `other`, and a link the additional name; a symlink has its target in `data` (`faults.files.links`).
    A `syncdir` makes the names in the directory `path` durable ("" is the tape's own directory), a `sync` a file's
    contents, a `syncall` everything; a `failsync` is a sync that reported an error.
    """

    kind: str
    path: str
    offset: int = 0
    data: bytes = b""
    size: int = 0
    other: str = ""

    def __str__(self) -> str:
        if self.kind == "write":
            return f"write {len(self.data)} bytes of {self.path} at {self.offset}"
        if self.kind == "truncate":
            return f"truncate {self.path} to {self.size} bytes"
        if self.kind == "symlink":
            return f"symlink {self.path} to {os.fsdecode(self.data).lstrip(chr(0))}"
        return f"{self.kind} {self.path or 'the directory'}" + (f" to {self.other}" if self.other else "")


def unnamed_in(directory: str, number: int) -> str:
    """A placeholder path for a file that was created without a name (``O_TMPFILE``); a later `link` may name it."""
    return os.path.join(directory, f"{_UNNAMED}{number}")  # noqa: PTH118 - on a hot path


def is_unnamed(name: str) -> bool:
    """Whether this is a placeholder of `unnamed_in`."""
    return _UNNAMED in name


@dataclass(frozen=True, slots=True)
class Note:
    """An event that may have changed a file unrecorded, or (`syncs`) synced any file, after `position` operations."""

    position: int
    way: str
    syncs: bool = False


class Tape:
    """The operations below one directory, in order; `len(tape)` is the current position."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.operations: list[Operation] = []
        self.notes: list[Note] = []
        self.root = os.path.realpath(directory)
        self._below = self.root + os.sep
        # Files (by SQLite's address) whose next sync also syncs the directory.
        self._with_directory: set[int] = set()
        # Files that a thread is creating: another one may open, and change, such a file first.
        self._creating: set[str] = set()
        self._lock = new_lock()
        self._pauses = 0
        # The scope in which operations are appended: it may hold another thread back.
        self.held: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    def __len__(self) -> int:
        return len(self.operations)

    def relative(self, path: str | None) -> str | None:
        """The path relative to the directory, or None for a file outside of it."""
        return path.removeprefix(self._below) if path is not None and path.startswith(self._below) else None

    def name_of(self, path: str) -> str | None:
        """The path relative to the directory, "" for the directory itself, None for a file outside of it."""
        return "" if path == self.root else self.relative(path)

    def note(self, way: str, *, syncs: bool = False) -> None:
        """Note a way in which a file may have been changed, or synced, unrecorded."""
        if self._pauses:
            return
        with self._lock:
            self.notes.append(Note(len(self.operations), way, syncs))

    def add(self, *operations: Operation) -> None:
        """Append operations; they stay together."""
        with self.held(), self._lock:
            if self._pauses:
                return
            for one in operations if self._creating else ():
                if one.kind in _USES and one.path in self._creating:
                    self._creating.discard(one.path)
                    self.operations.append(Operation("create", one.path))
            self.operations += operations

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing inside this scope: other files have replaced the recorded ones."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1

    # -- called by the shim --------------------------------------------------------------------------------

    def opening(self, path: str | None, flags: int, *, existed: bool) -> None:
        """A file is about to be opened."""
        name = None if existed or self._pauses or not flags & _CREATE else self.relative(path)
        if name is not None:
            with self._lock:
                self._creating.add(name)

    def not_opened(self, path: str | None) -> None:
        """It could not be."""
        with self._lock:
            self._creating.discard(self.relative(path) or "")

    def opened(self, path: str | None, role: str, file: int, flags: int) -> None:
        """A file was opened."""
        name = None if self._pauses else self.relative(path)
        self._with_directory.discard(file)
        if name is None or not flags & _CREATE:
            return
        if role in _OPENED_WITH_DIRECTORY:
            self._with_directory.add(file)
        with self.held(), self._lock:
            if name in self._creating:
                self._creating.discard(name)
                self.operations.append(Operation("create", name))

    def failed(self, kind: str, path: str | None) -> None:
        """An operation returned an error. Only a failed sync is recorded: the system may have dropped unsynced data."""
        name = self.relative(path)
        if kind == "sync" and name is not None:
            self.add(Operation("failsync", name))

    def performed(self, kind: str, path: str | None, args: Sequence[Any]) -> None:
        """An operation of `KINDS` other than open succeeded; `args` are SQLite's."""
        name = self.relative(path)
        if name is None or self._pauses:
            return
        if kind == "write":
            _file, buffer, size, offset = args
            self.add(Operation("write", name, offset, ctypes.string_at(buffer, size)))
        elif kind == "truncate":
            self.add(Operation("truncate", name, size=args[1]))
        elif kind == "sync":
            file = args[0]
            done = [Operation("sync", name)]
            if file in self._with_directory:
                self._with_directory.discard(file)
                done.append(Operation("syncdir", os.path.dirname(name)))  # noqa: PTH120 - on a hot path
            self.add(*done)
        elif kind == "delete":
            done = [Operation("delete", name)]
            if args[2]:
                done.append(Operation("syncdir", os.path.dirname(name)))  # noqa: PTH120 - on a hot path
            self.add(*done)
