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

import faults
from scenarios.checks import Violation
from scenarios.files import Files, place
from scenarios.target import Configuration, Environment, Target, View

_MOST_REMEMBERED: Final = 64


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
            view = session.live_view()
        finally:
            session.close()
        database = self.target.database(self.directory)
        if database.exists():
            with contextlib.closing(faults.connect_unwatched(database)) as connection:
                require_integrity(connection)
        return view


def require_integrity(connection: sqlite3.Connection) -> None:
    """Raise `Violation` where SQLite's own check finds damage."""
    problems = connection.execute("PRAGMA integrity_check").fetchall()
    if problems != [("ok",)]:
        raise Violation("integrity", "; ".join(str(row[0]) for row in problems[:3]))
