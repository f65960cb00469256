"""The views of copies of a store's files, opened as after a crash.

The target opens a copy at the path where the files were written (`in_place`), its view is read, the session is closed,
and SQLite checks the files. A target is deterministic and gets the time passed in, so equal files at the same time have
the same view: they are opened once. Most faults of one call leave one of a few states, so this cache saves the most
expensive check.

Not covered: power loss, where writes without a sync may be missing.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tornpage import faults
from tornpage.faults.integrity import problems_of
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.call_timeout import TookTooLongError, in_time
from tornpage.scenarios.execution.dropped import collected
from tornpage.scenarios.execution.generic_checks.schema_checks import require_foreign_keys, require_full_text
from tornpage.scenarios.execution.in_place import another_process, in_the_place_of
from tornpage.scenarios.execution.preflight.same_path import are_joined
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.model.judging.checks import OpeningFails, Violation
from tornpage.scenarios.model.target import Configuration, Target, View, environment_of
from tornpage.scenarios.targets.process import ProcessTarget, WriterLivesError

_MOST_REMEMBERED: Final = 64
# The names of the tables that have rows of their own, quoted.
_TABLES: Final = """
SELECT '"' || replace(name, '"', '""') || '"' FROM sqlite_master
WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name
"""

# SQLite's code for a statement that conflicts with another one; the driver's own errors have no code.
_IN_THE_WAY: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class Reopened:
    """Opens copies as a restarted process would, and caches the last few distinct views."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path) -> None:
        self.target = target
        self.configuration = configuration
        self.directory = directory
        self.opened = 0
        self._seen: dict[tuple[object, ...], View] = {}

    def view_of(self, files: Files, now_ms: int, written_in: Path | None = None) -> View:
        """The store's view on these files; raises `Violation` if opening them fails.

        `written_in` is the directory in which they were written; it has to exist. None: the reader's own.
        """
        # The store that wrote the files may be open there.
        if written_in is not None and are_joined(self.target, self.configuration, self.directory.with_name("joined")):
            written_in = None
        # The bytes themselves are the key: a digest costs as much as comparing them.
        key = (now_ms, written_in, *sorted(files.items()))
        view = self._seen.get(key)
        if view is None:
            place(files, self.directory, written_in)
            self.opened += 1
            with contextlib.ExitStack() as scope:
                if written_in is not None:
                    scope.enter_context(in_the_place_of(written_in, self.directory))
                scope.enter_context(another_process())
                scope.enter_context(collected())
                view = self._open(written_in or self.directory, now_ms)
            if len(self._seen) >= _MOST_REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = view
        return view

    def _open(self, directory: Path, now_ms: int) -> View:
        environment = environment_of(self.target)
        environment.now_ms = now_ms
        try:
            with in_time("after a crash, opening the store"):
                session = self.target.open(directory, self.configuration, environment)
        except TookTooLongError as hang:
            raise Violation("still-usable-after-the-fault", str(hang)) from None
        except WriterLivesError:
            raise
        except Exception as error:
            raise OpeningFails("still-usable-after-the-fault", f"after a crash, opening fails: {error!r}") from error
        try:
            with in_time("after a crash, looking at the store and closing it"):
                try:
                    view = session.live_view()
                finally:
                    session.close()
        except TookTooLongError as hang:
            raise Violation("still-usable-after-the-fault", str(hang)) from None
        except Exception as error:
            message = f"after a crash, the store opens, and then looking at it or closing it fails: {error!r}"
            raise Violation("still-usable-after-the-fault", message) from error
        database = self.target.database(directory)
        # A store of plain files has no database, whatever files it has.
        if self.configuration.journal_mode != "file" and database.exists():
            with contextlib.closing(faults.connect_unwatched(database)) as connection:
                require_integrity(connection, self.target)
                require_full_text(connection)
                require_whole(connection, self.target)
        return view


def require_whole(connection: sqlite3.Connection, target: Target) -> None:
    """Raise `Violation` if a program that has opened its store has an incomplete schema."""
    lacks = target.lacks(connection) if isinstance(target, ProcessTarget) else ""
    if lacks:
        raise Violation("still-usable-after-the-fault", f"the store opens, and its rows can't be read: {lacks}")


def require_integrity(connection: sqlite3.Connection, target: Target) -> None:
    """Raise `Violation` if SQLite's own checks find damage, or so much that one can't run.

    It covers pages and indexes, and the constraints and foreign keys that the schema declares; the constraints not
    where others write rows that break them.
    """
    try:
        problems = problems_of(connection, constraints=not target.breaks_constraints)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise Violation("integrity", f"SQLite's own check fails: {error!r}") from error
    if problems:
        raise Violation("integrity", "; ".join(problems))
    require_foreign_keys(connection)


def view_of(target: Target, database: Path, *, integrity: bool) -> View:
    """What a fresh reader past the shim sees."""
    if not database.exists():
        return view_without(target, database)
    with kept_logs(database.parent), contextlib.closing(faults.connect_unwatched(database)) as connection:
        if integrity:
            require_integrity(connection, target)
        return fresh_view_on(connection, target, database)


def view_without(target: Target, database: Path) -> View:
    """What is shown where there is no database: nothing, or what `rows` finds in the files that are there.

    A store may have moved its database away, and be about to make the next one. An empty one stands in for it.
    """
    if not names_in(os.fspath(database.parent)):
        return {}
    with faults.unseen():
        database.touch()
        try:
            with contextlib.closing(faults.connect_unwatched(database)) as connection:
                return fresh_view_on(connection, target, database)
        except sqlite3.OperationalError:
            # It expects tables: then there is nothing.
            return {}
        finally:
            database.unlink()


def fresh_view_on(connection: sqlite3.Connection, target: Target, database: Path) -> View:
    """The view of the target's plain SQL on a connection, under one lock instead of one for each statement."""
    # An unfinished statement keeps the lock; unlike a BEGIN it conflicts with few other statements.
    try:
        with contextlib.closing(connection.execute("SELECT 1 FROM sqlite_master")):
            return target.fresh_view(connection)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _IN_THE_WAY:
            raise
    # A target may do what an unfinished statement forbids, such as DETACH: then run without it.
    with contextlib.closing(faults.connect_unwatched(database)) as another:
        return target.fresh_view(another)


def contents_of(database: Path) -> list[Any]:
    """Every row of every ordinary table, `sqlite_sequence` included, as read past the shim.

    Empty if there is no database, or it can't be read.
    """
    if not database.exists():
        return []
    with kept_logs(database.parent), contextlib.closing(faults.connect_unwatched(database)) as connection:
        try:
            tables = connection.execute(_TABLES).fetchall()
            return [(name, connection.execute(f"SELECT * FROM {name}").fetchall()) for (name,) in tables]  # noqa: S608
        except sqlite3.Error:
            return []


@contextlib.contextmanager
def kept_logs(directory: Path) -> Iterator[None]:
    """Let no reader inside this scope be the last to close a database of this directory that has a log.

    Closing the last connection checkpoints and deletes the log, and a reader that judges a store may not change it. So
    a read-only connection is opened first and closed last, if the store has no connection with the log open itself: one
    that it has opened, and that has read nothing yet, holds no lock on the log.
    """
    with contextlib.ExitStack() as scope:
        for database in _with_logs(os.fspath(directory)):
            with contextlib.suppress(sqlite3.Error):
                last = scope.enter_context(contextlib.closing(faults.connect_unwatched(database, read_only=True)))
                # Enough to open the log, and no schema is parsed for it.
                last.execute("PRAGMA schema_version").fetchall()
        yield


def names_in(directory: str) -> list[str]:
    """The names in a directory; none if it is missing, since a store may create it on first use."""
    # Called at every check of a store: pathlib would be half as fast.
    try:
        return os.listdir(directory)  # noqa: PTH208
    except FileNotFoundError:
        return []


def _with_logs(directory: str) -> list[Path]:
    """The databases of a directory with a log, even an empty one, that no connection of this process has open."""
    found = []
    for name in names_in(directory):
        if name.endswith("-wal"):
            path = os.path.join(directory, name)  # noqa: PTH118
            database = path.removesuffix("-wal")
            # A log of that name may also be open in a directory that a crash copy has taken the place of.
            if not (faults.is_open(database) and faults.has_log_open(database)):
                found.append(Path(database))
    return found


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite reports that the file is damaged, or not a database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def fails_later(what: str, error: BaseException | None) -> Violation:
    """A failure with nothing armed, on files that earlier faults or crashes have left: they have caused it."""
    code = "integrity" if isinstance(error, sqlite3.Error) and is_damage(error) else "still-usable-after-the-fault"
    return Violation(code, f"{what}, on the files that earlier faults have left: {error!r}")
