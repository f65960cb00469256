"""What a store's Python code touches of SQLite's own files by itself while it is opened.

A store that reads a header, or looks into a log, decides by what it has read. What it has read before SQLite opens the
database is a part of the disk: on each disk that is equal there (`Footprint.fits`) it decides alike. What it reads
later may be the result of a recovery, and what it changes, removes or moves is no longer SQLite's: both depend on the
whole of the files.

Not covered: decisions by the size or the times of a file that `os.stat` gives, by C code, and by other processes.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tornpage import faults
from tornpage.faults.files import noting_reads, watching

OWN_SUFFIXES: Final = ("", "-wal", "-journal")
_CHANGING: Final = frozenset({"file-create", "file-write", "file-truncate", "file-rename", "file-link", "file-unlink"})


class _Piece(NamedTuple):
    """What was read: bytes of a file from an offset on; a size of None is the rest of it."""

    suffix: str
    offset: int
    size: int | None
    content: bytes


class Footprint(NamedTuple):
    """The part of SQLite's own files that a store has read: which are there, and pieces of them."""

    there: tuple[str, ...]
    pieces: tuple[_Piece, ...]

    def fits(self, name: str, files: Mapping[str, bytes]) -> bool:
        """Whether a disk is equal there; `name` is the database's name among its files."""
        # Disks of one tape differ most often at the end of a log, which a store reads last.
        return self.there == own_there(name, files) and all(
            _cut(files.get(name + one.suffix, b""), one.offset, one.size) == one.content
            for one in reversed(self.pieces)
        )


class Touches:
    """Notes what Python code reads and changes of a database's own files; an injector that never fires."""

    kinds = _CHANGING | {"file-open", "open"}

    def __init__(self, database: Path, name: str, files: Mapping[str, bytes]) -> None:
        self._path = os.path.realpath(database)
        self._name, self._files = name, files
        # The shared memory, too: a program that removes it does so with the log.
        self._own = {self._path + suffix: suffix for suffix in (*OWN_SUFFIXES, "-shm")}
        self._inode = self._inode_now()
        self._met = self._depends_on_all = self._is_open = False
        self._pieces: list[_Piece] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what is touched inside this scope."""
        with watching(self), noting_reads(self), faults.shims().watching(self):
            yield

    @property
    def seen(self) -> bool:
        """Whether a file was touched, or the database was moved away: a rename names the new place only."""
        return self._met or (self._inode is not None and self._inode != self._inode_now())

    @property
    def footprint(self) -> Footprint:
        """What another disk must have in common with this one for the store to decide alike."""
        pieces = self._pieces
        if self._depends_on_all or (self.seen and not pieces):
            pieces = [self._piece(suffix, 0, None) for suffix in OWN_SUFFIXES]
        return Footprint(own_there(self._name, self._files), tuple(pieces))

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Note an operation of SQLite's or of Python's, and let it pass."""
        if path not in self._own:
            return
        if kind == "open":
            self._is_open = True
            return
        self._met = True
        self._depends_on_all = self._depends_on_all or self._is_open or kind in _CHANGING

    def read(self, path: str, offset: int, size: int | None) -> None:
        """Note a read."""
        suffix = self._own.get(path)
        if suffix is None:
            return
        self._met = True
        if self._is_open or suffix not in OWN_SUFFIXES:
            self._depends_on_all = True
        else:
            self._pieces.append(self._piece(suffix, offset, size))

    def _piece(self, suffix: str, offset: int, size: int | None) -> _Piece:
        return _Piece(suffix, offset, size, _cut(self._files.get(self._name + suffix, b""), offset, size))

    def _inode_now(self) -> int | None:
        try:
            return os.stat(self._path).st_ino  # noqa: PTH116
        except OSError:
            return None


def name_in(database: str, directory: Path) -> str:
    """The database's name among a directory's files; if it is in another directory, one that no file here has."""
    below = f"{directory}{os.sep}"
    return database.removeprefix(below) if database.startswith(below) else "\0"


def own_there(name: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Which of SQLite's own files of a database are there, by suffix."""
    return tuple([suffix for suffix in OWN_SUFFIXES if name + suffix in files])


def _cut(content: bytes, offset: int, size: int | None) -> bytes:
    return content[offset:] if size is None else content[offset : offset + size]
