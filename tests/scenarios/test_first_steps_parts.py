"""First targets of stores that leave their calls, or their memory, to parts of their own classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("collected", "quick_is_small")

# Two parts with calls; one of them changes its memory first, or last.
APP = """
import sqlite3

class Users:
    def __init__(self, db):
        self._db = db

    def add(self, name: str, mail: str):
        self._db.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (name, mail))

    def remove(self, name: str):
        self._db.execute("DELETE FROM users WHERE name = ?", (name,))

class Tags:
    def __init__(self, db):
        self._db = db
        self.known = {tag for (tag,) in db.execute("SELECT tag FROM tags")}

    def put(self, tag: str):
        STATEMENTS

class App:
    def __init__(self, path):
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, mail TEXT)")
        self._db.execute("CREATE TABLE IF NOT EXISTS tags (tag TEXT PRIMARY KEY)")
        self.users = Users(self._db)
        self._tags = Tags(self._db)

    @property
    def tags(self):
        return self._tags

    def close(self):
        self._db.close()
"""
# Calls of its own; what it remembers is in a cache of a class of its own.
CACHED = """
import sqlite3

class Cache:
    def __init__(self, items):
        self.items_by_name = dict(items)

    def put(self, name, value):
        self.items_by_name[name] = value

class Settings:
    def __init__(self, path):
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT)")
        self._cache = Cache(self._db.execute("SELECT name, value FROM settings"))

    def set(self, name: str, value: str):
        self._cache.put(name, value)
        self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def close(self):
        self._db.close()
"""


def written(command: Command, home: Path, module: str, source: str, name: str) -> str:
    (home / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{module}:{name}")
    assert wrote.code == 0, wrote
    return (home / f"{module}_target.py").read_text()


# What the row is written for is added before, or read after it.
ROW = 'self._db.execute("INSERT OR IGNORE INTO tags VALUES (?)", (tag,))'
READ = 'self.known = {tag for (tag,) in self._db.execute("SELECT tag FROM tags")}'
PUTS = {"sound_app": (ROW, READ), "broken_app": ("self.known.add(tag)", ROW)}


@pytest.mark.parametrize("module", PUTS)
def test_the_calls_of_parts_are_made_and_their_memory_is_judged(command: Command, tmp_path: Path, module: str) -> None:
    source = APP.replace("STATEMENTS", "\n        ".join(PUTS[module]))
    text = written(command, tmp_path, module, source, "App")
    assert 'Action("users.add", {"name": "alpha", "mail": "one"})' in text
    assert 'Action("tags.put", {"tag": "alpha"})' in text
    assert "for key in store.tags.known}" in text
    swept = command("sweep", "--target", f"{module}_target:AppTarget", "--plan", "write:journal@1=FULL", "--quiet")
    assert swept.code == (1 if module == "broken_app" else 0), swept


def test_the_memory_of_a_part_without_calls_is_judged(command: Command, tmp_path: Path) -> None:
    text = written(command, tmp_path, "cached", CACHED, "Settings")
    assert "store._cache.items_by_name.items()" in text
    assert 'Action("_cache.put"' not in text
    swept = command("sweep", "--target", "cached_target:SettingsTarget", "--quiet")
    assert (swept.code, "memory-equals-disk" in swept.out) == (1, True), swept
