"""The files of the old queue, as another program has left them, and other files beside them."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.faults.files import spared
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import TargetError


def _link(path: Path, content: bytes) -> None:
    path.with_suffix(".txt").write_bytes(content)
    path.symlink_to(path.with_suffix(".txt"))


def _below(path: Path, content: bytes) -> None:
    """In a directory of what the old program had given up."""
    given_up = path.parent / "failed"
    given_up.mkdir(exist_ok=True)
    (given_up / path.name).write_bytes(content)


def _replaced(path: Path) -> os.stat_result:
    """The file that another one replaces; an empty one if it is gone already."""
    if not path.exists():
        path.touch()
    return path.stat()


def _later(path: Path, content: bytes) -> None:
    """Written in another millisecond of the same second as the file that it replaces, which may have the same size."""
    second, ns = divmod(_replaced(path).st_mtime_ns, 1_000_000_000)
    path.write_bytes(content)
    written_ns = second * 1_000_000_000 + (ns + 1_000_000) % 1_000_000_000
    os.utime(path, ns=(written_ns, written_ns))


def _another(path: Path, content: bytes) -> None:
    """Another file of the same size and time, as one that was copied with its times and moved here."""
    found, copy = _replaced(path), path.with_suffix(".new")
    copy.write_bytes(content.ljust(found.st_size))
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
    copy.replace(path)


# A record that can't be read has the fingerprint of no message.
_IMPORTS: Final = "SELECT id, CASE typeof(imported_at) WHEN 'integer' THEN fingerprint ELSE '' END FROM outbox_imports"
# What the ledger takes for a file of the old queue at most.
_LARGEST_FILE: Final = 16 * 1024 * 1024
_ODD_FILES: Final[dict[str, Callable[[Path, bytes], object]]] = {
    "json": lambda path, content: path.write_bytes(content),
    "text": lambda path, content: path.write_bytes(content[:-1]),
    "bytes": lambda path, content: path.write_bytes(content[:-1] + b"\xff"),
    "bytes in a text": lambda path, content: path.write_bytes(content.replace(b"mail", b"m\xffl")),
    "large": lambda path, content: path.write_bytes(content.rjust(_LARGEST_FILE)),
    "too large": lambda path, content: path.write_bytes(content.rjust(_LARGEST_FILE + 1)),
    "link": _link,
    "directory": lambda path, _: path.mkdir(),
    "fifo": lambda path, _: os.mkfifo(path),
    "below": _below,
    "later": _later,
    "another": _another,
}


def _document(file: Path) -> Any:
    """The content of an old file; None for an invalid one."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size > _LARGEST_FILE:
        return None
    try:
        return msgspec.json.decode(file.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class LegacyQueue:
    """The files of the old queue. A message that was removed from it has to be in the outbox's database."""

    def __init__(self, directory: Path, database: Path) -> None:
        self.directory: Final = directory
        self._database = database
        # The idempotency key, if any, of each removed message.
        self._taken: dict[str, str | None] = {}
        # The same of the messages in the files as an import found them, or as they were replaced since.
        self._found: dict[str, str | None] = {}
        # The file that another program has replaced: its path, its content before (None: there was none), and `_found`.
        self._replaced: tuple[Path, bytes | None, dict[str, str | None]] | None = None
        # All imports in the database at the last check; None: there was no check.
        self.known: dict[str, str] | None = None
        # Those that a check has found. No list shows them, so the rule of `check` is all that holds them.
        self._recorded: dict[str, str] = {}

    def put(self, name: str, content: object, kind: str = "json") -> None:
        """One more file, of the old program's or of another `kind`."""
        if Path(name).name != name:
            # An action may come from a replay file, which must not write anywhere else.
            raise TargetError(f"a legacy file's name is no path: {name!r}")
        if kind not in _ODD_FILES:
            raise TargetError(f"unknown kind of file {kind!r}; known: {', '.join(_ODD_FILES)}")
        # The old program writes it, and armed faults are for the new one.
        with spared():
            self.directory.mkdir(exist_ok=True)
            _ODD_FILES[kind](self.directory / name, msgspec.json.encode(content))

    def replace(self, name: str, content: object, kind: str = "json") -> None:
        """During an import another program puts down a file: it has removed the one before, and not the import."""
        there, path = self._ids(), self.directory / name
        with spared():
            before = path.read_bytes() if path.is_file() else None
        self._replaced = path, before, self._found
        self.put(name, content, kind)
        self._found = {one: key for one, key in self._found.items() if one not in there} | self._ids()

    def _withdraw(self) -> None:
        """Put back the file that was replaced during an import, unless the import has removed what came instead."""
        if self._replaced is not None and self._replaced[0].exists():
            path, before, self._found = self._replaced
            with spared():
                path.unlink()
                if before is not None:
                    path.write_bytes(before)

    @contextlib.contextmanager
    def importing(self) -> Iterator[Path]:
        """During an import: record which files are removed.

        If it fails, no file was replaced: an import that is made again would find another message than the first time,
        and neither the ledger nor a file would have the one that was replaced.
        """
        self._found, self._replaced = self._ids(), None
        try:
            yield self.directory
        except BaseException:
            self._withdraw()
            raise
        finally:
            left = self._ids()
            self._taken |= {name: key for name, key in self._found.items() if name not in left}

    def _ids(self) -> dict[str, str | None]:
        """The keys of the messages in the files, by their id."""
        found: dict[str, str | None] = {}
        for entry in (self.contents() or {}).values():
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                key = entry.get("idempotencyKey")
                found[entry["id"].strip()] = key.strip() if isinstance(key, str) else None
        return found

    def contents(self) -> dict[str, Any] | None:
        """The documents by the names of their files, without invalid ones; None if the directory is missing."""
        if not self.directory.is_dir():
            return None
        with spared():
            return {file.name: _document(file) for file in self.directory.glob("*.json")}

    def look(self) -> None:
        """Read what was ever imported, unless a look has done so; it stays unknown under a rival or a limit."""
        if not self.directory.is_dir():
            self.known = {}
        if self.known is None:
            with (
                contextlib.suppress(sqlite3.Error, MemoryError),
                contextlib.closing(faults.connect_unwatched(self._database)) as connection,
            ):
                self.known = dict(connection.execute(_IMPORTS).fetchall())

    def spoiled(self, message_id: str) -> None:
        """The record of this import was edited by hand."""
        self._recorded.pop(message_id, None)

    def check(self) -> None:
        """The message of every removed file has been committed, and every import stays recorded. Raises `Violation`."""
        if not self.directory.is_dir():
            # Nothing can have been imported.
            self.known = {}
            return
        with contextlib.closing(faults.connect_unwatched(self._database)) as connection:
            self.known = dict(connection.execute(_IMPORTS).fetchall())
            there = connection.execute("SELECT id, idempotency_key FROM message_outbox").fetchall()
        # A call may have queued the same message, under this id or under another one.
        ids, keys = {name for name, _ in there}, {key for _, key in there} - {None}
        known = ids | self.known.keys()
        lost = sorted(name for name, key in self._taken.items() if name not in known and key not in keys)
        self._taken = {}
        if lost:
            raise Violation(
                "no-lost-message", f"the file of message {lost[0]} was removed, and no database has the message"
            )
        forgotten = sorted(self._recorded.items() - self.known.items())
        self._recorded = dict(self.known)
        if forgotten:
            raise Violation(
                "no-duplicate-after-ack",
                f"that message {forgotten[0][0]} was imported is not recorded any more: its file would bring it back",
            )
