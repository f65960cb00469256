"""First targets of stores whose answers change with the time, or that look at their file before they answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage.scenarios.run.first_steps.bounds import lowered_bound
from tornpage.scenarios.run.first_steps.more_calls import Effect

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]

# A row that is deleted keeps the time of it, and may be restored until it is purged.
BIN = """
import datetime, sqlite3

class Bin:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        with self.db:
            self.db.execute("CREATE TABLE IF NOT EXISTS doc (title TEXT PRIMARY KEY, deleted_at TEXT)")

    def add(self, title: str):
        with self.db:
            self.db.execute("INSERT INTO doc (title) VALUES (?)", (title,))

    def restore(self, title: str):
        WITHself.db.execute("UPDATE doc SET deleted_at = NULL WHERE deleted_at > '' AND title = ?", (title,))
        return self.db.total_changes

    def delete(self, title: str):
        with self.db:
            self.db.execute("UPDATE doc SET deleted_at = ? WHERE title = ?", (self.now(0), title))

    def now(self, days: int):
        return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).isoformat()

    def purge(self):
        with self.db:
            return self.db.execute("DELETE FROM doc WHERE deleted_at < ?", (self.now(30),)).rowcount

    def close(self):
        self.db.close()
"""
RESTORED = '        Action("purge"),\n        Action("restore", {"title": "alpha"}),'


@pytest.mark.parametrize("commits", [True, False])
def test_what_restores_a_deleted_row_is_called_after_it_is_deleted(
    command: Command, tmp_path: Path, *, commits: bool
) -> None:
    pytest.importorskip("time_machine")
    module = f"bin_{commits}".lower()
    (tmp_path / f"{module}.py").write_text(BIN.replace("WITH", "with self.db: " if commits else ""))
    wrote = command("new", "target", "--from", f"{module}:Bin")
    assert wrote.code == 0, wrote
    assert "left out: deleted_at" not in wrote.out
    assert "deterministic: the time" in wrote.out
    assert RESTORED in (tmp_path / f"{module}_target.py").read_text()
    plan = "write:db@99=FULL" if commits else "write@99=FULL"
    swept = command("sweep", "--target", f"{module}_target:BinTarget", "--plan", plan, "--quiet", "--jobs", 1)
    assert ("memory has [None]" in swept.out) is not commits, swept


# The version is looked at before what was read is answered; a store that forgets to count it on answers what is gone.
VERSIONED = """
import sqlite3

class Flags:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS flag (name TEXT PRIMARY KEY, value TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS version (n INTEGER)")
        self.db.execute("INSERT INTO version SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM version)")
        self.cached, self.version = {}, -1

    def _do(self, sql, args):
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.execute(sql, args)
            COUNT

    def put(self, name: str, value: str):
        self._do("INSERT OR REPLACE INTO flag VALUES (?, ?)", (name, value))

    def get(self, name: str):
        (version,) = self.db.execute("SELECT n FROM version").fetchone()
        if version != self.version:
            self.cached, self.version = dict(self.db.execute("SELECT name, value FROM flag").fetchall()), version
        return self.cached.get(name)

    def drop(self, name: str):
        self._do("DELETE FROM flag WHERE name = ?", (name,))

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize("counts", [True, False])
def test_a_cache_is_in_the_view_unless_reading_puts_it_right(command: Command, tmp_path: Path, *, counts: bool) -> None:
    module = f"flags_{counts}".lower()
    count = 'self.db.execute("UPDATE version SET n = n + 1")' if counts else "pass"
    (tmp_path / f"{module}.py").write_text(VERSIONED.replace("COUNT", count))
    wrote = command("new", "target", "--from", f"{module}:Flags")
    assert wrote.code == 0, wrote
    assert ("over its rows" in wrote.out) is not counts
    assert ("not checked: store.cached" in wrote.out) is counts
    plan = "write:db@99=FULL"
    swept = command("sweep", "--target", f"{module}_target:FlagsTarget", "--plan", plan, "--quiet", "--jobs", 1)
    assert ("flag/alpha: memory has" in swept.out) is not counts, swept
    # The row that each new store has is none of its data.
    assert "version/1: the expected state has nothing" not in swept.out


# What is recorded waits for two more.
BEHIND = """
import sqlite3

class Behind:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS reading (name TEXT PRIMARY KEY, value REAL)")
        self.waiting = []

    def record(self, name: str, value: float):
        self.waiting.append((name, value))
        if len(self.waiting) >= 3:
            self.flush()

    def flush(self):
        self.db.executemany("INSERT OR REPLACE INTO reading VALUES (?, ?)", self.waiting)
        self.waiting = []

    def close(self):
        self.flush()
        self.db.close()
"""


# Each second call writes, and so does `flush`; the rows have numbers.
BY_TWO = """
import sqlite3

class Behind:
    def __init__(self, path, size=2):
        self.size, self.waiting = size, []
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, kind TEXT, data TEXT)")
        self.db.commit()

    def log(self, kind: str, data: str):
        self.waiting.append((kind, data))
        if len(self.waiting) >= self.size:
            self.flush()

    def flush(self):
        with self.db:
            self.db.executemany("INSERT INTO event (kind, data) VALUES (?, ?)", self.waiting)
        self.waiting.clear()

    def close(self):
        self.flush()
        self.db.close()
"""


@pytest.mark.parametrize(("name", "text"), [("behind", BEHIND), ("by_two", BY_TWO)])
def test_a_store_that_writes_in_batches_is_told_why_it_has_no_target(
    name: str, text: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.py").write_text(text)
    wrote = command("new", "target", "--from", f"{name}:Behind")
    assert wrote.code == 2
    assert "it is a write-behind store" in wrote.err
    assert "differs on each run" not in wrote.err


# An answer may be a number or a time of its own type.
TYPED = """
import sqlite3
from decimal import Decimal

class Fees:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS fee (name TEXT PRIMARY KEY, amount TEXT)")

    def charge(self, name: str, amount: Decimal):
        self.db.execute("INSERT OR REPLACE INTO fee VALUES (?, ?)", (name, str(amount)))

    def total(self):
        return sum((Decimal(one) for (one,) in self.db.execute("SELECT amount FROM fee").fetchall()), Decimal(0))

    def statement(self):
        return object()

    def close(self):
        self.db.close()
"""


def test_a_read_that_answers_a_decimal_is_called(command: Command, tmp_path: Path) -> None:
    (tmp_path / "fees.py").write_text(TYPED)
    wrote = command("new", "target", "--from", "fees:Fees")
    assert wrote.code == 0, wrote
    assert 'Action("total")' in (tmp_path / "fees_target.py").read_text()
    assert "not called: statement: it changed no row that another connection sees, and returned nothing to compare" in (
        wrote.out
    )


class Descriptor:
    """A store that was played: its descriptor is another one in each, its limit is the same."""

    def __init__(self, number: int, lowered: list[str]) -> None:
        self.own = self
        self.fd, self.most, self.kept = number, 2, ["a"] * 2
        self.peaks: dict[str, int] = {}
        self._lowered = lowered

    def effects(self, actions: Any) -> list[Effect | None]:
        self._lowered += [name for name in ("fd", "most") if getattr(self, name) == 1]
        self.peaks = {"kept": min(self.most, self.fd)}
        return [None for _ in actions]


def test_a_file_descriptor_is_no_limit_and_is_never_changed() -> None:
    lowered = list[str]()
    numbers = iter(range(5, 20))
    assert lowered_bound(lambda: Descriptor(next(numbers), lowered), ()) == "most"
    assert lowered == ["most"]


# Words are found in an index that is in memory only, and is made before the row is written.
FOUND = """
import sqlite3

class Docs:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS doc (name TEXT PRIMARY KEY, body TEXT)")
        self.words = sqlite3.connect(":memory:", isolation_level=None)
        self.words.execute("CREATE TABLE word (word TEXT, name TEXT)")
        for row in self.db.execute("SELECT body, name FROM doc").fetchall():
            self.words.execute("INSERT INTO word VALUES (?, ?)", row)

    def put(self, name: str, body: str):
        self.db.execute("INSERT OR REPLACE INTO doc VALUES (?, ?)", (name, body))
        self.words.execute("INSERT INTO word VALUES (?, ?)", (body, name))

    def find(self, word: str):
        return [name for (name,) in self.words.execute("SELECT name FROM word WHERE word = ?", (word,)).fetchall()]

    def close(self):
        self.words.close()
        self.db.close()
"""


def test_a_read_is_called_with_a_text_that_another_call_had_under_another_name(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "docs_found.py").write_text(FOUND)
    wrote = command("new", "target", "--from", "docs_found:Docs")
    assert wrote.code == 0, wrote
    assert 'Action("find", {"word": "one"})' in (tmp_path / "docs_found_target.py").read_text()


# What is exported is as old as the last export; a cache that reads fill is as new as its rows.
EXPORTING = """
import json, os, sqlite3

class Contacts:
    def __init__(self, path):
        self.dump = f"{path}.json"
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS contact (name TEXT PRIMARY KEY, mail TEXT)")
        self.known = {}

    def add(self, name: str, mail: str):
        self.db.execute("INSERT OR REPLACE INTO contact VALUES (?, ?)", (name, mail))
        self.known.pop(name, None)

    def find(self, name: str):
        for name, mail in self.db.execute("SELECT name, mail FROM contact WHERE name = ?", (name,)):
            self.known[name] = mail
        return self.known.get(name)

    def EXPORT(self):
        with open(self.dump, "w") as file:
            json.dump(dict(self.db.execute("SELECT name, mail FROM contact")), file)

    def exported(self):
        if not os.path.exists(self.dump):
            return {}
        with open(self.dump) as file:
            return json.load(file)

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize("exports", [True, False])
def test_a_copy_that_a_call_makes_is_no_view(command: Command, tmp_path: Path, *, exports: bool) -> None:
    module = f"contacts_{exports}".lower()
    # A private method is not called.
    (tmp_path / f"{module}.py").write_text(EXPORTING.replace("EXPORT", "export" if exports else "_export"))
    wrote = command("new", "target", "--from", f"{module}:Contacts")
    assert wrote.code == 0, wrote
    assert "exported()" not in wrote.out
    assert ('Action("export")' in (tmp_path / f"{module}_target.py").read_text()) is exports
    assert "known: name and mail of contact, over its rows" in wrote.out
