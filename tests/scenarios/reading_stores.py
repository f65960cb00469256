"""Stores whose reads depend on what the session has read or claimed before, and one of a cache."""

import functools
import sqlite3
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, Environment, SimpleTarget


class Settings:
    """Named values; `get` keeps what it has read."""

    def __init__(self, path: Path, environment: Environment) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.now = environment.clock
        self.polled: set[str] = set()
        self.claimed: set[str] = set()
        self.asked = 0
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT)")
        except BaseException:
            self.db.close()
            raise
        self.read = functools.lru_cache(self._read)

    def _read(self, name: str) -> str | None:
        row = self.db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchall()
        return row[0][0] if row else None

    def write(self, statement: str, *values: str) -> None:
        try:
            self.db.execute(statement, values)
        finally:
            self.read.cache_clear()

    def put(self, name: str, value: str) -> None:
        self.write("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, value)

    def remove(self, name: str) -> None:
        self.write("DELETE FROM setting WHERE name = ?", name)

    def get(self, name: str) -> str | None:
        return self.read(name)

    def names(self) -> list[str]:
        """In any order, and here in another one than a new session's."""
        found = [name for (name,) in self.db.execute("SELECT name FROM setting ORDER BY name").fetchall()]
        return found[::-1] if self.asked else found

    def poll(self) -> list[str]:
        """The names that are new since the last call."""
        new = [name for name in self.names() if name not in self.polled]
        self.polled.update(new)
        return new

    def fresh(self) -> int:
        """How many names are new since the last call."""
        return len(self.poll())

    def claim(self) -> str | None:
        """The first name that this process has not claimed."""
        name = self.peek()
        self.claimed.add(str(name))
        return name

    def peek(self) -> str | None:
        return min((name for name in self.names() if name not in self.claimed), default=None)

    def stats(self) -> dict[str, int]:
        self.asked += 1
        return {"names": len(self.names()), "open": 1}

    def recent(self) -> bool:
        """Whether it is early in the day."""
        return self.now() < 1_800_000_000_000

    def close(self) -> None:
        self.db.close()


class SettingsTarget(SimpleTarget):
    title = "settings"
    configurations = (Configuration("delete", "FULL"),)
    beat = Action("put", {"name": "beat", "value": "1"})
    calls = (
        Action("put", {"name": "a", "value": "1"}), Action("get", {"name": "a"}), Action("poll"), Action("stats"),
        Action("put", {"name": "b", "value": "1"}), Action("poll"), Action("poll"), Action("names"), Action("recent"),
        Action("get", {"name": "a"}), Action("remove", {"name": "a"}), Action("get", {"name": "a"}), Action("poll"),
        Action("names"), Action("stats"),
    )  # fmt: skip
    kind: type[Settings] = Settings

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Settings:
        return self.kind(path, environment)

    def view(self, store: Settings) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return dict(connection.execute("SELECT name, value FROM setting").fetchall())
