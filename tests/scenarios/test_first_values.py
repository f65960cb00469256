"""A first target for stores that take or hold objects, have defaults, or caches that are filled while they are used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

# An object of a class of its own, which the store gives a number, a named tuple, a time, bytes.
MUSIC = """
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, Optional

@dataclass
class Track:
    title: str
    file: Path
    id: Optional[int] = None

class Price(NamedTuple):
    sku: str
    amount: Decimal

class Music:
    def __init__(self, path: Path):
        self.db = sqlite3.connect(path, isolation_level=None)
        for table in ("track(title TEXT PRIMARY KEY, file TEXT)", "price(sku TEXT PRIMARY KEY, amount TEXT)",
                      "played(at TEXT PRIMARY KEY, what TEXT)", "cover(name TEXT PRIMARY KEY, image BLOB)"):
            self.db.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    def save(self, track: Track) -> None:
        if track.id is not None:
            raise ValueError("saved already")
        track.id = 7
        SAVE

    def offer(self, price: Price) -> None:
        self.db.execute("INSERT OR REPLACE INTO price VALUES (?, ?)", (price.sku, str(price.amount)))

    def play(self, what: str, at: datetime) -> None:
        self.db.execute("INSERT OR REPLACE INTO played VALUES (?, ?)", (at.isoformat(), what))

    def cover(self, name: str, image: bytes) -> None:
        self.db.execute("INSERT OR REPLACE INTO cover VALUES (?, ?)", (name, image))

    def image(self, name: str):
        found = self.db.execute("SELECT image FROM cover WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def close(self):
        self.db.close()
"""
AT_ONCE = 'self.db.execute("INSERT OR REPLACE INTO track VALUES (?, ?)", (track.title, str(track.file)))'
IN_TWO_STEPS = """self.db.execute("DELETE FROM track WHERE title = ?", (track.title,))
        self.db.execute("INSERT INTO track VALUES (?, ?)", (track.title, str(track.file)))"""


@pytest.mark.parametrize(("name", "save", "code"), [("at_once", AT_ONCE, 0), ("in_two_steps", IN_TWO_STEPS, 1)])
def test_calls_that_take_objects_are_made(command: Command, tmp_path: Path, name: str, save: str, code: int) -> None:
    (tmp_path / f"music_{name}.py").write_text(MUSIC.replace("SAVE", save))
    wrote = command("new", "target", "--from", f"music_{name}:Music")
    assert wrote.code == 0, wrote
    assert "calls: save, offer, play, cover, image\n" in wrote.out
    assert "not called" not in wrote.out
    swept = command("sweep", "--target", f"music_{name}_target:MusicTarget", "--quiet", "--jobs", 1)
    assert swept.code == code, swept
    assert ("all-or-nothing" in swept.out) == bool(code)


# A cache that begins empty, with the file behind it. `get` answers from it.
LAZY = """
import sqlite3
from collections import OrderedDict

class Pages:
    def __init__(self, path, capacity=100):
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS page (url TEXT PRIMARY KEY, body BLOB)")
        self.capacity, self.recent = capacity, OrderedDict()

    def set(self, url: str, body: bytes) -> None:
        SET
        while len(self.recent) > self.capacity:
            self.recent.popitem(last=False)

    def get(self, url: str):
        if url not in self.recent:
            found = self.db.execute("SELECT body FROM page WHERE url = ?", (url,)).fetchone()
            if found is None:
                return None
            self.recent[url] = found[0]
        return self.recent[url]

    def delete(self, url: str) -> None:
        with self.db:
            self.db.execute("DELETE FROM page WHERE url = ?", (url,))
        self.recent.pop(url, None)

    def close(self):
        self.db.close()
"""
MEMORY_FIRST = """self.recent[url] = body
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO page VALUES (?, ?)", (url, body))"""

# Sound also where the COMMIT raised and had happened.
FORGETS_ON_ERROR = """self.recent.pop(url, None)
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO page VALUES (?, ?)", (url, body))
        self.recent[url] = body"""


@pytest.mark.parametrize(("name", "set_", "code"), [("sound", FORGETS_ON_ERROR, 0), ("stale", MEMORY_FIRST, 1)])
def test_a_cache_that_begins_empty_lies_over_the_rows(
    command: Command, tmp_path: Path, name: str, set_: str, code: int
) -> None:
    (tmp_path / f"pages_{name}.py").write_text(LAZY.replace("SET", set_))
    wrote = command("new", "target", "--from", f"pages_{name}:Pages")
    assert wrote.code == 0, wrote
    assert "view: recent: url and body of page, over its rows" in wrote.out
    swept = command("sweep", "--target", f"pages_{name}_target:PagesTarget", "--quiet", "--jobs", 1)
    assert swept.code == code, swept
    assert ("memory has b'alpha', the file has nothing" in swept.out) == bool(code)


# Defaults that no table has, values as JSON, and objects by their keys; in WAL, a failed call has not committed.
SETTINGS = """
import json, sqlite3
from dataclasses import dataclass

DEFAULTS = {"theme": "light", "size": 20}

@dataclass
class User:
    name: str
    city: str
    active: int = 1

class Settings:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS user (name TEXT PRIMARY KEY, city TEXT, active INTEGER)")
        self.values = DEFAULTS | {n: json.loads(v) for n, v in self.db.execute("SELECT * FROM setting")}
        self.users = {row[0]: User(*row) for row in self.db.execute("SELECT * FROM user")}

    def set(self, name: str, value: str):
        self.db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, json.dumps(value)))
        self.values[name] = value

    def join(self, user: User):
        self.db.execute("INSERT OR REPLACE INTO user VALUES (?, ?, ?)", (user.name, user.city, user.active))
        self.users[user.name] = user

    def ban(self, name: str):
        FIRST
        self.db.execute("UPDATE user SET active = 0 WHERE name = ?", (name,))
        self.users[name].active = 0

    def reset(self):
        SECOND
        self.db.execute("DELETE FROM setting")
        self.values = dict(DEFAULTS)

    def close(self):
        self.db.close()
"""
BANNED, RESET = "self.users[name].active = 0", "self.values = dict(DEFAULTS)"


@pytest.mark.parametrize(
    ("name", "first", "second", "said"),
    [
        ("both_sound", "pass", "pass", ""),
        ("bans", BANNED, "pass", "memory has ['other', 0], the file has ['other', 1]"),
        ("resets", "pass", RESET, "setting/alpha: memory has nothing, the file has 'other'"),
    ],
)
def test_defaults_json_and_objects_in_memory_are_the_view(
    command: Command, tmp_path: Path, name: str, first: str, second: str, said: str
) -> None:
    (tmp_path / f"settings_{name}.py").write_text(SETTINGS.replace("FIRST", first).replace("SECOND", second))
    wrote = command("new", "target", "--from", f"settings_{name}:Settings")
    assert wrote.code == 0, wrote
    assert "view: values: name and value of setting\n" in wrote.out
    assert "view: users: name, city, active of user\n" in wrote.out
    swept = command("sweep", "--target", f"settings_{name}_target:SettingsTarget", "--quiet", "--plan", "write@1=FULL")
    assert swept.code == bool(said), swept
    assert said in swept.out


# A connection for each thread, no `close`, and a parent that the first call has added already.
FAMILY = """
import contextlib, sqlite3, threading

class Family:
    def __init__(self, path):
        self.path, self.here = path, threading.local()
        self._db().executescript(
            "CREATE TABLE IF NOT EXISTS parent (name TEXT PRIMARY KEY);"
            "CREATE TABLE IF NOT EXISTS child (parent TEXT, name TEXT, PRIMARY KEY (parent, name))"
        )

    def _db(self):
        if not hasattr(self.here, "db"):
            self.here.db = sqlite3.connect(self.path)
        return self.here.db

    def bear(self, parent: str, name: str):
        with self._db() as db:
            db.execute("INSERT OR IGNORE INTO parent VALUES (?)", (parent,))
            MIDDLE
            db.execute("INSERT OR IGNORE INTO child VALUES (?, ?)", (parent, name))

    def settle(self, parent: str):
        with self._db() as db:
            db.execute("INSERT OR IGNORE INTO parent VALUES (?)", (parent,))
"""


@pytest.mark.parametrize(("middle", "code"), [("pass", 0), ("db.commit()", 1)])
def test_a_connection_of_each_thread_is_closed_and_both_tables_are_seen(
    command: Command, tmp_path: Path, middle: str, code: int
) -> None:
    (tmp_path / f"family_{code}.py").write_text(FAMILY.replace("MIDDLE", middle))
    wrote = command("new", "target", "--from", f"family_{code}:Family")
    assert wrote.code == 0, wrote
    assert "4 calls: bear, settle\n" in wrote.out
    assert "view: child, parent, through store.here.db; add" in wrote.out
    swept = command("sweep", "--target", f"family_{code}_target:FamilyTarget", "--quiet", "--jobs", 1)
    assert swept.code == code, swept
    assert ("all-or-nothing" in swept.out) == bool(code)


# What it holds is a mapping of its table, and can't be listed; libraries have such ones.
UNLISTED = """
import sqlite3
from collections.abc import MutableMapping

class Table(MutableMapping):
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT)")

    def __getitem__(self, name):
        return self.db.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()[0]

    def __setitem__(self, name, value):
        self.db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))

    def __delitem__(self, name):
        self.db.execute("DELETE FROM kept WHERE name = ?", (name,))

    def __iter__(self):
        raise NotImplementedError("not supported")

    def __len__(self):
        return self.db.execute("SELECT count(*) FROM kept").fetchone()[0]

class Kept:
    def __init__(self, path):
        self.table = Table(path)

    def put(self, name, value):
        self.table[name] = value

    def close(self):
        self.table.db.close()
"""


def test_a_mapping_that_can_not_be_listed_ends_nothing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(UNLISTED)
    wrote = command("new", "target", "--from", "kept:Kept")
    assert wrote.code == 0, wrote
    assert command("sweep", "--target", "kept_target:KeptTarget", "--quiet").code == 0
