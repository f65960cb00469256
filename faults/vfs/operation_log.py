"""The tape: every operation that changed a file, in order, with what it wrote.

Method. The shim tells a tape of each operation that succeeded on a file of one directory; plain Python files are told
of by `faults.files`. From the files as they were when the tape began and the operations on it, `faults.crash.states`
makes every disk that a crash could have left.

What is synced is written down as the unix VFS does it: the first sync of a journal, super-journal or WAL that was
opened to be created also syncs its directory; so does a delete that asks for it; nothing else ever does
(``os_unix.c``, `unixSync` and `unixDelete`).

Not covered: writes through memory mapping, SQLite's files that were open before the tape began, and what does not pass
SQLite or Python's own functions. `Tape.notes` keeps what may have done so, for a difference that is found.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tornpage.faults.locks import new_lock

# SQLITE_OPEN_CREATE, and what xDelete is asked for.
_CREATE: Final = 0x4
_OPENED_WITH_DIRECTORY: Final = frozenset({"journal", "super", "wal"})

KINDS: Final = frozenset({"open", "write", "truncate", "sync", "delete"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One change. `kind` is create, write, truncate, delete, rename, link, mkdir, rmdir, sync, syncdir, syncall or
    failsync; `path` is relative.

    A write has its `offset` (bytes) and `data`; a truncate its `size` (bytes); a rename (of a file, or of a directory)
    its new name in `other`, a link one name more. A `syncdir` makes names durable in the directory `path` ("" for the
    tape's own), a `sync` a file's contents, a `syncall` everything; a `failsync` was tried and reported an error.
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
        return f"{self.kind} {self.path or 'the directory'}" + (f" to {self.other}" if self.other else "")


def unnamed_in(directory: str, number: int) -> str:
    """The path of a file that has been made without a name, which no file can have; `link` may give it one."""
    return os.path.join(directory, f"\0unnamed-{number}")  # noqa: PTH118 - on a hot path


def is_unnamed(name: str) -> bool:
    """Whether it is no name, but one of `unnamed_in`."""
    return "\0" in name


@dataclass(frozen=True, slots=True)
class Note:
    """Something that may have changed a file unseen, or (`syncs`) synced any, after `position` operations."""

    position: int
    way: str
    syncs: bool = False


class Tape:
    """Operations below one directory, as they happen; `len(tape)` is the position now."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.operations: list[Operation] = []
        self.notes: list[Note] = []
        self.root = os.path.realpath(directory)
        self._below = self.root + os.sep
        # Files (by SQLite's address) whose next sync also syncs the directory.
        self._with_directory: set[int] = set()
        self._lock = new_lock()
        self._pauses = 0

    def __len__(self) -> int:
        return len(self.operations)

    def relative(self, path: str | None) -> str | None:
        """The path inside the directory, or None for a file of somebody else's."""
        return path.removeprefix(self._below) if path is not None and path.startswith(self._below) else None

    def name_of(self, path: str) -> str | None:
        """The name below the directory, "" for that itself, None for a file of somebody else's."""
        return "" if path == self.root else self.relative(path)

    def note(self, way: str, *, syncs: bool = False) -> None:
        """Write down in which way a file may have been changed, or synced, unseen."""
        if self._pauses:
            return
        with self._lock:
            self.notes.append(Note(len(self.operations), way, syncs))

    def add(self, *operations: Operation) -> None:
        """Write operations down; they stay together."""
        with self._lock:
            if not self._pauses:
                self.operations += operations

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Write nothing down inside this scope: other files are where the recorded ones were."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1

    # -- what the shim tells -------------------------------------------------------------------------------

    def opened(self, path: str | None, role: str, file: int, flags: int, *, existed: bool) -> None:
        """A file was opened."""
        name = None if self._pauses else self.relative(path)
        self._with_directory.discard(file)
        if name is None or not flags & _CREATE:
            return
        if role in _OPENED_WITH_DIRECTORY:
            self._with_directory.add(file)
        if not existed:
            self.add(Operation("create", name))

    def failed(self, kind: str, path: str | None) -> None:
        """An operation has answered an error. Of a sync that matters: the system may have dropped what was unsynced."""
        name = self.relative(path)
        if kind == "sync" and name is not None:
            self.add(Operation("failsync", name))

    def performed(self, kind: str, path: str | None, args: Sequence[Any]) -> None:
        """An operation of `KINDS` other than open has succeeded, with SQLite's own arguments."""
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
