"""What copies of a store's files show when they are opened as after a crash.

The target opens a copy in a directory of its own, its view is taken, the session is closed, and SQLite checks what was
left. A target is deterministic and gets the time handed in, so equal files at the same time show the same: they are
opened once. Most faults of one call leave one of a few states, which makes this the dearest look that need not be
taken twice.

Not covered: power loss, where what was written but not synced may be missing.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from tornpage import faults
from tornpage.scenarios.execution.schema_checks import require_foreign_keys, require_full_text
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.model.checks import Violation
from tornpage.scenarios.model.target import Configuration, Environment, Target, View

_MOST_REMEMBERED: Final = 64

# What SQLite says of a statement that is in another one's way; the driver's own errors have no code.
_IN_THE_WAY: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class Reopened:
    """Opens copies as a restarted process would, and remembers what the last few distinct ones showed."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path) -> None:
        self.target = target
        self.configuration = configuration
        self.directory = directory
        self.opened = 0
        self._seen: dict[tuple[object, ...], View] = {}

    def view_of(self, files: Files, now_ms: int) -> View:
        """What the store shows when it is opened on these files; raises `Violation` where that fails."""
        # The bytes themselves are the key: a digest costs as much as comparing them.
        key = (now_ms, *sorted(files.items()))
        view = self._seen.get(key)
        if view is None:
            view = self._open(files, now_ms)
            if len(self._seen) >= _MOST_REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = view
        return view

    def _open(self, files: Files, now_ms: int) -> View:
        place(files, self.directory)
        self.opened += 1
        environment = Environment()
        environment.now_ms = now_ms
        try:
            session = self.target.open(self.directory, self.configuration, environment)
        except Exception as error:
            raise Violation("still-usable-after-the-fault", f"after a crash, opening fails: {error!r}") from error
        try:
            try:
                view = session.live_view()
            finally:
                session.close()
        except Exception as error:
            message = f"after a crash, the store opens, and then looking at it or closing it fails: {error!r}"
            raise Violation("still-usable-after-the-fault", message) from error
        database = self.target.database(self.directory)
        if database.exists():
            with contextlib.closing(faults.connect_unwatched(database)) as connection:
                require_integrity(connection)
                require_full_text(connection)
        return view


def require_integrity(connection: sqlite3.Connection) -> None:
    """Raise `Violation` where SQLite's own checks find damage, or finds so much that one can't run.

    Pages and indexes, and the foreign keys that the schema declares.
    """
    try:
        problems = connection.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise Violation("integrity", f"SQLite's own check fails: {error!r}") from error
    if problems != [("ok",)]:
        raise Violation("integrity", "; ".join(str(row[0]) for row in problems[:3]))
    require_foreign_keys(connection)


def view_of(target: Target, database: Path, *, integrity: bool, keeps_log: bool = False) -> View:
    """What a fresh reader past the shim sees, all of it under one lock instead of one for each statement.

    Whoever closes the last connection writes a WAL back. With `keeps_log` that is one that can't write: it costs less,
    and the reader itself has to be one that can, or SQLite would not look at CHECK constraints.
    """
    with contextlib.ExitStack() as scope:
        if keeps_log:
            last = scope.enter_context(contextlib.closing(faults.connect_unwatched(database, read_only=True)))
            # Enough to open the log, and no schema is parsed for it.
            last.execute("PRAGMA schema_version").fetchall()
        connection = scope.enter_context(contextlib.closing(faults.connect_unwatched(database)))
        if integrity:
            require_integrity(connection)
        # A statement that is not at its end keeps the lock; unlike a BEGIN it is in few other statements' way.
        try:
            with contextlib.closing(connection.execute("SELECT 1 FROM sqlite_master")):
                return target.fresh_view(connection)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _IN_THE_WAY:
                raise
        # A target may do what a statement under way forbids, such as DETACH: then without it.
        return target.fresh_view(scope.enter_context(contextlib.closing(faults.connect_unwatched(database))))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is damaged, or not a database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
