"""A store that opens its database without locks, one that locks it for good, and one that opens it as usual."""

import sqlite3
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, SimpleTarget


class Settings:
    def __init__(self, path: Path, query: str) -> None:
        self.db = sqlite3.connect(f"file:{path}?{query}", uri=True, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT)")

    def set(self, name: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    def close(self) -> None:
        self.db.close()


class LocksForGood(Settings):
    """Sound, with PRAGMA locking_mode = EXCLUSIVE."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.db.execute("CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT)")


def without_its_lock(path: Path) -> LocksForGood:
    """Such a store in the locking mode NORMAL."""
    store = LocksForGood(path)
    store.db.execute("PRAGMA locking_mode = NORMAL")
    store.db.execute("SELECT 1 FROM sqlite_master").fetchall()
    return store


class SettingsTarget(SimpleTarget):
    title = "settings"
    file = "settings.db"
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("set", {"name": "color", "value": "red"}), Action("set", {"name": "color", "value": "blue"}))
    beat = Action("set", {"name": "beat", "value": "on"})
    query = "mode=rwc"

    def make(self, path: Path, configuration: Any, environment: Any) -> Any:
        return Settings(path, self.query)

    def view(self, store: Any) -> Any:
        return self.rows(store.db)

    def rows(self, connection: Any) -> Any:
        return dict(connection.execute("SELECT name, value FROM setting").fetchall())


class NoLockTarget(SettingsTarget):
    query = "nolock=1"


class VfsWithoutLocksTarget(SettingsTarget):
    query = "vfs=unix-none"


class DeclaredTarget(NoLockTarget):
    callers = ("processes",)
