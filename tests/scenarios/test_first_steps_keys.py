"""First targets make the creating calls for a second key: defects that need two rows are found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]

# The first row is read by a cursor; without LIMIT it is not at its end as soon as there are two.
FEED = """
import sqlite3

class Feed:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS posts (id INTEGER PRIMARY KEY, text TEXT)")
        self.rows = None

    def add(self, text):
        self.db.execute("INSERT INTO posts (text) VALUES (?)", (text,))

    def first(self):
        self.rows = self.db.execute("SELECT text FROM posts ORDER BY id LIMIT")
        return next(self.rows, None)

    def close(self):
        self.rows = None
        self.db.close()
"""
# A track moves before another one, from the place that is read in the transaction, or before it.
TRACKS = """
import sqlite3

class Tracks:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS tracks (name TEXT PRIMARY KEY, pos INTEGER NOT NULL)")

    def append(self, name):
        self.db.execute("INSERT INTO tracks SELECT ?, COALESCE(MAX(pos), 0) + 1 FROM tracks", (name,))

    def to_front(self, name):
        EARLY
        self.db.execute("BEGIN IMMEDIATE")
        try:
            LATE
            self.db.execute("UPDATE tracks SET pos = pos + 1 WHERE pos < ?", (pos,))
            self.db.execute("UPDATE tracks SET pos = 1 WHERE name = ?", (name,))
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def close(self):
        self.db.close()
"""
READ = '(pos,) = self.db.execute("SELECT pos FROM tracks WHERE name = ?", (name,)).fetchone()'
# Its second key is refused: the target has the calls that work.
ONLY_ONE = """
import sqlite3

class OnlyOne:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS one (name TEXT PRIMARY KEY CHECK (name <> 'beta'))")

    def add(self, name):
        self.db.execute("INSERT OR IGNORE INTO one VALUES (?)", (name,))

    def remove(self, name):
        self.db.execute("DELETE FROM one WHERE name = ?", (name,))

    def close(self):
        self.db.close()
"""
# With two rows its removal changes nothing.
LAST_STAYS = """
import sqlite3

class LastOne:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS one (name TEXT PRIMARY KEY)")

    def add(self, name):
        self.db.execute("INSERT INTO one VALUES (?)", (name,))

    def clear(self):
        self.db.execute("DELETE FROM one WHERE (SELECT COUNT(*) FROM one) = 1")

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize(
    ("module", "source", "search", "code"),
    [
        ("feed", FEED.replace("LIMIT", "LIMIT 1"), "sweep", 0),
        ("feed_open", FEED.replace("LIMIT", ""), "sweep", 1),
        ("tracks", TRACKS.replace("EARLY", "").replace("LATE", READ), "interleave", 0),
        ("tracks_raced", TRACKS.replace("EARLY", READ).replace("LATE", ""), "interleave", 1),
    ],
)
def test_a_defect_that_needs_two_rows_is_found(
    command: Command, tmp_path: Path, module: str, source: str, search: str, code: int
) -> None:
    (tmp_path / f"{module}.py").write_text(source)
    name = "Feed" if "Feed" in source else "Tracks"
    wrote = command("new", "target", "--from", f"{module}:{name}")
    assert wrote.code == 0, wrote
    assert "not called" not in wrote.out
    target = (tmp_path / f"{module}_target.py").read_text()
    assert target.index('"alpha"') < target.index('"beta"') < target.index('"heartbeat"')
    found = command(search, "--target", f"{module}_target:{name}Target", "--quiet", "--jobs", 1)
    assert found.code == code, found
    if code:
        assert ("log-stays-small" if search == "sweep" else "not-serializable") in found.out


@pytest.mark.parametrize(("source", "name"), [(ONLY_ONE, "OnlyOne"), (LAST_STAYS, "LastOne")])
def test_a_second_key_that_would_spoil_a_call_is_left_out(
    command: Command, tmp_path: Path, source: str, name: str
) -> None:
    (tmp_path / f"{name.lower()}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{name.lower()}:{name}")
    assert wrote.code == 0, wrote
    target = (tmp_path / f"{name.lower()}_target.py").read_text()
    assert '"beta"' not in target
    assert target.count("Action(") == 3
