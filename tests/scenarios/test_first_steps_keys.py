"""First targets make the creating calls for a second key: defects that need two rows are found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
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
# What it takes together is one event at first: only a second one of the same account shows that it takes two steps.
EVENTS = """
import contextlib, sqlite3

class Events:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, account TEXT, amount INTEGER)")
        self.db.execute("CREATE TABLE IF NOT EXISTS shots (account TEXT PRIMARY KEY, seq INTEGER, total INTEGER)")

    def deposit(self, account: str, amount: int):
        self.db.execute("INSERT INTO events (account, amount) VALUES (?, ?)", (account, amount))

    def snapshot(self, account: str):
        with WHOLE:
            query = "SELECT MAX(seq), SUM(amount) FROM events WHERE account = ?"
            seq, total = self.db.execute(query, (account,)).fetchone()
            self.db.execute("DELETE FROM events WHERE account = ? AND seq < ?", (account, seq))
            self.db.execute("INSERT OR REPLACE INTO shots VALUES (?, ?, ?)", (account, seq, total))

    @contextlib.contextmanager
    def _whole(self):
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def close(self):
        self.db.close()
"""
# Foreign keys are enforced, or not: then the last removal leaves what the first one had removed before.
LABELS = """
import sqlite3

class Labels:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA foreign_keys = ENFORCED")
        self.db.execute("CREATE TABLE IF NOT EXISTS items (name TEXT PRIMARY KEY)")
        references = "REFERENCES items ON DELETE CASCADE"
        self.db.execute(f"CREATE TABLE IF NOT EXISTS labels (name TEXT {references}, label TEXT, UNIQUE (name, label))")

    def add(self, name: str):
        self.db.execute("INSERT INTO items VALUES (?)", (name,))

    def label(self, name: str, label: str):
        self.db.execute("INSERT INTO labels VALUES (?, ?)", (name, label))

    def remove_labels(self, name: str):
        self.db.execute("DELETE FROM labels WHERE name = ?", (name,))

    def remove(self, name: str):
        self.db.execute("DELETE FROM items WHERE name = ?", (name,))

    def close(self):
        self.db.close()
"""
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
    ("module", "source", "search", "check"),
    [
        ("feed", FEED.replace("LIMIT", "LIMIT 1"), "sweep", ""),
        ("feed_open", FEED.replace("LIMIT", ""), "sweep", "log-stays-small"),
        ("tracks", TRACKS.replace("EARLY", "").replace("LATE", READ), "interleave", ""),
        ("tracks_raced", TRACKS.replace("EARLY", READ).replace("LATE", ""), "interleave", "not-serializable"),
        ("events", EVENTS.replace("WHOLE", "self._whole()"), "sweep", ""),
        ("events_torn", EVENTS.replace("WHOLE", "contextlib.nullcontext()"), "sweep", "all-or-nothing"),
        ("labels", LABELS.replace("ENFORCED", "ON"), "sweep", ""),
        ("labels_left", LABELS.replace("ENFORCED", "OFF"), "sweep", "integrity"),
    ],
)
def test_a_defect_that_needs_two_rows_is_found(
    command: Command, tmp_path: Path, module: str, source: str, search: str, check: str
) -> None:
    (tmp_path / f"{module}.py").write_text(source)
    name = module.split("_", maxsplit=1)[0].capitalize()
    wrote = command("new", "target", "--from", f"{module}:{name}")
    assert wrote.code == 0, wrote
    assert "not called" not in wrote.out
    target = (tmp_path / f"{module}_target.py").read_text()
    assert target.index('"alpha"') < target.index('"beta"') < target.index('"heartbeat"')
    more = ("--callers", "threads", "--schedules", 120) if search == "interleave" else ()
    found = command(search, *more, "--target", f"{module}_target:{name}Target", "--quiet", "--jobs", 1)
    assert found.code == bool(check), found
    assert check in found.out


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


# Its only argument is a list of keys.
WORDS = """
import sqlite3

class Words:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY, n INTEGER)")

    def add(self, words: list[str]):
        count = "ON CONFLICT (word) DO UPDATE SET n = n + 1"
        self.db.executemany(f"INSERT INTO words VALUES (?, 1) {count}", [(word,) for word in words])

    def close(self):
        self.db.close()
"""


def test_a_list_may_be_the_key(command: Command, tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text(WORDS)
    wrote = command("new", "target", "--from", "words:Words")
    assert wrote.code == 0, wrote
    assert """beat = Action("add", {"words": ['heartbeat']})""" in (tmp_path / "words_target.py").read_text()


# Its only argument is a mapping from keys to values; it changes its memory first.
BULK = """
import sqlite3

class Bulk:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS items (name TEXT PRIMARY KEY, n INTEGER)")
        self.items = dict(self.db.execute("SELECT name, n FROM items"))

    def update(self, items: dict[str, int]):
        self.items.update(items)
        self.db.executemany("INSERT OR REPLACE INTO items VALUES (?, ?)", list(items.items()))

    def close(self):
        self.db.close()
"""


def test_a_mapping_may_have_the_keys(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bulk.py").write_text(BULK)
    wrote = command("new", "target", "--from", "bulk:Bulk")
    assert wrote.code == 0, wrote
    written = (tmp_path / "bulk_target.py").read_text()
    assert """Action("update", {"items": {'one': 2}})""" in written
    assert """beat = Action("update", {"items": {'heartbeat': 1}})""" in written
    swept = command("sweep", "--target", "bulk_target:BulkTarget", "--quiet")
    assert (swept.code, "memory-equals-disk" in swept.out) == (1, True), swept


# Without two nodes that are there `attach` has no effect, and raises nothing.
NODES = """
import sqlite3

class Nodes:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS nodes (name TEXT PRIMARY KEY, parent TEXT)")

    def add(self, name: str):
        self.db.execute("INSERT INTO nodes VALUES (?, NULL)", (name,))

    def attach(self, name: str, parent: str):
        other = "EXISTS (SELECT 1 FROM nodes WHERE name = ?1 AND name <> ?2)"
        self.db.execute(f"UPDATE nodes SET parent = ?1 WHERE name = ?2 AND {other}", (parent, name))

    def close(self):
        self.db.close()
"""


def test_a_method_without_effect_on_one_key_is_called_for_two(command: Command, tmp_path: Path) -> None:
    (tmp_path / "nodes.py").write_text(NODES)
    wrote = command("new", "target", "--from", "nodes:Nodes")
    assert wrote.code == 0, wrote
    source = (tmp_path / "nodes_target.py").read_text()
    assert 'Action("attach", {"name": "alpha", "parent": "beta"})' in source
    assert 'Action("attach", {"name": "beta", "parent": "alpha"})' in source


# Names of files as the system has them, not always UTF-8.
FILES = """
import sqlite3

class Files:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY)")

    def add(self, name: str):
        self.db.execute("INSERT OR IGNORE INTO files VALUES (CAST(? AS TEXT))", (name.encode() + b"\\xff",))

    def close(self):
        self.db.close()
"""


def test_a_text_that_is_not_utf_8_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "files.py").write_text(FILES)
    wrote = command("new", "target", "--from", "files:Files")
    assert wrote.code == 2, wrote
    assert "`view` fails without any fault" in wrote.err
    assert "OperationalError: Could not decode to UTF-8 column 'name'" in wrote.err


# A batch is all that it takes; the broken one writes it record by record.
BATCHES = """
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

@dataclass
class Sample:
    name: str
    value: float = 0.0

class Series:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS sample (name TEXT PRIMARY KEY, value REAL)")

    def append(self, samples: RECORDS):
        BEGIN
        self.db.executemany("INSERT OR REPLACE INTO sample VALUES (?, ?)", [VALUES for one in samples])
        END

    def close(self):
        self.db.close()
"""
OBJECTS = ("list[Sample]", "(one.name, one.value)")
TUPLES = ("Sequence[tuple[str, float]]", "one")


@pytest.mark.parametrize(
    ("module", "records", "in_one", "said"),
    [
        ("batches1", OBJECTS, True, '[Sample(name="alpha"), Sample(name="beta")]'),
        ("batches2", OBJECTS, False, '[Sample(name="alpha"), Sample(name="beta")]'),
        ("batches3", TUPLES, True, "[('alpha', 1.5), ('beta', 1.5)]"),
    ],
)
def test_a_list_of_records_gets_two_and_the_beat_one(
    command: Command, tmp_path: Path, module: str, records: tuple[str, str], in_one: bool, said: str
) -> None:
    begin, end = ('self.db.execute("BEGIN")', 'self.db.execute("COMMIT")') if in_one else ("pass", "pass")
    source = BATCHES.replace("RECORDS", records[0]).replace("VALUES for", f"{records[1]} for")
    (tmp_path / f"{module}.py").write_text(source.replace("BEGIN\n", f"{begin}\n").replace("END\n", f"{end}\n"))
    wrote = command("new", "target", "--from", f"{module}:Series")
    assert wrote.code == 0, wrote
    target = (tmp_path / f"{module}_target.py").read_text()
    assert f'Action("append", {{"samples": {said}}})' in target
    assert target.count('Action("append"') == 3
    assert "heartbeat" in target.partition("beat = ")[2].splitlines()[0]
    if module != "batches3":
        ran = command("sweep", "--target", f"{module}_target:SeriesTarget", "--quiet", "--plan", "write:wal@5=FULL")
        assert ("all-or-nothing" in ran.out) == (not in_one), ran
