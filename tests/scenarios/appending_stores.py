"""Stores that append to a log beside the database, and keep the places there in rows."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, SimpleTarget


class Log:
    """Appends, then notes the place; after a call that failed, a line that no row names stays in the log."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".log")
        self.path.touch()
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS place (key TEXT PRIMARY KEY, start INTEGER, size INTEGER)")
        except BaseException:
            self.db.close()
            raise

    def put(self, key: str, text: str) -> None:
        start = self.path.stat().st_size
        with self.path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.note(key, start, len(text))

    def note(self, key: str, start: int, size: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (key, start, size))

    def get(self, key: str) -> str | None:
        row = self.db.execute("SELECT start, size FROM place WHERE key = ?", (key,)).fetchone()
        return None if row is None else self.path.read_text()[row[0] : row[0] + row[1]]

    def close(self) -> None:
        self.db.close()


class CountsFirst(Log):
    """Counts the bytes in memory, and does not take those back that it removes from the log after a failure."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.end = self.path.stat().st_size

    def put(self, key: str, text: str) -> None:
        start = self.end
        self.end += len(text)
        size = self.path.stat().st_size
        with self.path.open("a") as file:
            file.write(text)
        try:
            self.note(key, start, len(text))
        except BaseException:
            os.truncate(self.path, size)
            raise


class Logged(SimpleTarget):
    configurations = (Configuration("delete", "FULL"),)
    calls = (
        Action("put", {"key": "a", "text": "first"}),
        Action("put", {"key": "b", "text": "second"}),
        Action("put", {"key": "a", "text": "third"}),
        Action("get", {"key": "a"}),
    )
    beat = Action("put", {"key": "beat", "text": "beat"})
    kind: type[Log] = Log

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Log:
        return self.kind(path)

    def view(self, store: Log) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {key: [start, size] for key, start, size in connection.execute("SELECT * FROM place")}


class CountedFirst(Logged):
    kind = CountsFirst
