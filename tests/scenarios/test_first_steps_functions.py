"""First targets for stores that a function makes: from a configuration, by a class method, without a `close`."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults, functions

Command = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("collected", "quick_is_small")

CONFIGURED = """
import dataclasses, pathlib, sqlite3

@dataclasses.dataclass
class Config:
    path: pathlib.Path

class Notes:
    def __init__(self, config: Config):
        self.db = sqlite3.connect(config.path)
        self.db.execute("CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT)")

    def add(self, text: str) -> int:
        with self.db:
            return self.db.execute("INSERT INTO note (text) VALUES (?)", (text,)).lastrowid

class Forgets(Notes):
    # A BUSY at its COMMIT leaves the transaction open.
    def add(self, text: str) -> int:
        number = self.db.execute("INSERT INTO note (text) VALUES (?)", (text,)).lastrowid
        self.db.commit()
        return number

def make(path):
    return Notes(Config(path))

def make_forgets(path):
    return Forgets(Config(path))
"""

# A connection and a memory of the module's own; FIRST and LAST are the lines before and after the row is written.
TODOS = """
import enum, sqlite3

_db = None
_known = {}

class State(enum.Enum):
    OPEN = 1
    DONE = 2

def init(path):
    global _db
    _db = sqlite3.connect(path, isolation_level=None)
    _db.execute("PRAGMA journal_mode = WAL")
    _db.execute("CREATE TABLE IF NOT EXISTS todo (title TEXT PRIMARY KEY, state INTEGER)")
    _known.update(_db.execute("SELECT title, state FROM todo"))

def set_state(title: str, state: State):
    FIRST
    _db.execute("INSERT OR REPLACE INTO todo VALUES (?, ?)", (title, State(state).value))
    LAST

def shutdown():
    _db.close()
"""
REMEMBERS = "_known[title] = state.value"
# Each function opens the file, at a path that a variable has.
LINKS = """
import contextlib, sqlite3

DB_PATH = "links.db"

def get_db():
    db = sqlite3.connect(DB_PATH, isolation_level=None)
    db.execute("CREATE TABLE IF NOT EXISTS link (name TEXT PRIMARY KEY, url TEXT)")
    return contextlib.closing(db)

def add(name, url):
    with get_db() as db:
        db.execute("INSERT OR REPLACE INTO link VALUES (?, ?)", (name, url))

def links():
    with get_db() as db:
        return dict(db.execute("SELECT name, url FROM link"))
"""
# Functions that take the path, and others that take a connection.
BY_PATH = """
import contextlib, sqlite3

@contextlib.contextmanager
def session(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS link (name TEXT PRIMARY KEY, url TEXT)")
        yield db

def add(path, name, url):
    with session(path) as db:
        db.execute("INSERT OR REPLACE INTO link VALUES (?, ?)", (name, url))
"""
BY_CONNECTION = """
import sqlite3

def connect(path: str):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TABLE IF NOT EXISTS link (name TEXT PRIMARY KEY, url TEXT)")
    return db

def add(conn, name, url):
    conn.execute("INSERT OR REPLACE INTO link VALUES (?, ?)", (name, url))
"""


@pytest.mark.parametrize(("function", "code"), [("make", 0), ("make_forgets", 1)])
def test_a_store_that_a_function_makes_needs_no_close(
    command: Command, tmp_path: Path, function: str, code: int
) -> None:
    module = f"configured_{function}"
    (tmp_path / f"{module}.py").write_text(CONFIGURED)
    wrote = command("new", "target", "--from", f"{module}:{function}")
    assert wrote.code == 0, wrote
    name = f"{function[:1].upper()}{function[1:]}Target"
    ran = command("sweep", "--target", f"{module}_target:{name}", "--quiet", "--plan", "lock:db@3..=BUSY")
    assert ran.code == code, ran
    assert ("memory-equals-disk" in ran.out) == bool(code)


def test_what_can_not_be_made_from_a_path_says_that_a_function_can(command: Command, tmp_path: Path) -> None:
    (tmp_path / "configured.py").write_text(CONFIGURED)
    ended = command("new", "target", "--from", "configured:Notes")
    assert ended.code == 2
    assert (
        "write a function (or an `async def`) that takes a path and returns such a store, and name that: --from "
        "MODULE:FUNCTION" in ended.err
    )
    ended = command("new", "target", "--from", "configured:Notes.open")
    assert ended.code == 2
    assert "nor MODULE:FUNCTION, a function that takes a path and returns a store" in ended.err


def test_a_store_of_plain_files_is_told_where_its_target_is_described(command: Command, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "class Plain:\n    def __init__(self, path):\n        self.file = open(path, 'a')\n"
        "    def put(self, name):\n        self.file.write(name)\n"
        "    def close(self):\n        self.file.close()\n"
    )
    ended = command("new", "target", "--from", "plain:Plain")
    assert ended.code == 2
    assert "docs/your-own-store.md#a-store-of-plain-files" in ended.err


@pytest.mark.parametrize(
    ("module", "first", "last", "code"), [("todos1", "pass", REMEMBERS, 0), ("todos2", REMEMBERS, "pass", 1)]
)
def test_the_functions_of_a_module_are_a_store(
    command: Command, tmp_path: Path, module: str, first: str, last: str, code: int
) -> None:
    (tmp_path / f"{module}.py").write_text(TODOS.replace("FIRST", first).replace("LAST", last))
    wrote = command("new", "target", "--from", module)
    assert wrote.code == 0, wrote
    assert "view: _known: title and state of todo" in wrote.out
    target = (tmp_path / f"{module}_target.py").read_text()
    assert f'functions("{module}", path, opening="init", closing="shutdown")' in target
    assert 'Action("set_state", {"title": "alpha", "state": State.OPEN})' in target
    name = f"{module.capitalize()}Target"
    ran = command("sweep", "--target", f"{module}_target:{name}", "--quiet", "--plan", "write@1=FULL")
    assert ran.code == code, ran
    assert ("memory-equals-disk" in ran.out) == bool(code)


@pytest.mark.parametrize(
    ("module", "source", "made"),
    [
        ("links1", LINKS, 'functions("links1", path, place="DB_PATH")'),
        ("links2", BY_PATH, 'functions("links2", path)'),
        ("links3", BY_CONNECTION, 'functions("links3", path, opening="connect")'),
    ],
)
def test_functions_get_the_path_or_the_connection_that_they_take(
    command: Command, tmp_path: Path, module: str, source: str, made: str
) -> None:
    (tmp_path / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", module)
    assert wrote.code == 0, wrote
    target = (tmp_path / f"{module}_target.py").read_text()
    assert made in target
    assert 'beat = Action("add", {"name": "heartbeat", "url": "one"})' in target
    assert not (tmp_path / "links.db").exists()


def test_a_module_that_fails_to_open_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "todos3.py").write_text(TODOS.replace("FIRST", "pass").replace("LAST", REMEMBERS))
    (tmp_path / "no.db").write_text("this is no database, and long enough to be taken for one" * 20)
    with faults.install():
        with pytest.raises(sqlite3.DatabaseError):
            functions("todos3", tmp_path / "no.db", opening="init")
        assert not faults.is_open(tmp_path / "no.db")
        one, two = (functions("todos3", tmp_path / name, opening="init") for name in ("one.db", "two.db"))
        one.set_state("a", one.State.DONE)
        assert (one._known, two._known) == ({"a": 2}, {})
        one.close()
        two.close()
        assert not faults.is_open(tmp_path / "one.db")


def test_a_function_that_opens_no_store_of_objects_says_that_a_module_may_be_one(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "links4.py").write_text(BY_CONNECTION)
    ended = command("new", "target", "--from", "links4:connect")
    assert ended.code == 2
    assert "for a store of functions name their module alone: --from MODULE" in ended.err
    (tmp_path / "empty.py").write_text("import sqlite3")
    ended = command("new", "target", "--from", "empty")
    assert ended.code == 2
    assert "empty defines no public function" in ended.err


# A store that is handed out for a while, and a unit of work, kept at the end of its block; LAST is that.
SHELVES = """
import contextlib, sqlite3

class Shelf:
    def __init__(self, db):
        self.db = db

    def put(self, name, title):
        self.db.execute("INSERT OR REPLACE INTO book VALUES (?, ?)", (name, title))

    def books(self):
        return dict(self.db.execute("SELECT name, title FROM book"))

@contextlib.contextmanager
def shelf(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS book (name TEXT PRIMARY KEY, title TEXT)")
        yield Shelf(db)

@contextlib.contextmanager
def work(path):
    db = sqlite3.connect(path)
    try:
        db.execute("CREATE TABLE IF NOT EXISTS book (name TEXT PRIMARY KEY, title TEXT)")
        yield Shelf(db)
        LAST
    finally:
        db.close()

@contextlib.contextmanager
def session(path):
    with shelf(path) as one:
        yield one.db
"""
HIDES = """with contextlib.suppress(sqlite3.Error):
            db.commit()"""


@pytest.mark.parametrize(
    ("module", "function", "made", "last", "code"),
    [
        ("shelves1", "shelf", "entered(shelf(path))", "db.commit()", 0),
        ("shelves2", "work", "entered(lambda: work(path))", "db.commit()", 0),
        ("shelves3", "work", "entered(lambda: work(path))", HIDES, 1),
    ],
)
def test_a_store_that_a_context_manager_hands_out(
    command: Command, tmp_path: Path, module: str, function: str, made: str, last: str, code: int
) -> None:
    (tmp_path / f"{module}.py").write_text(SHELVES.replace("LAST", last))
    wrote = command("new", "target", "--from", f"{module}:{function}")
    assert wrote.code == 0, wrote
    assert f"return {made}" in (tmp_path / f"{module}_target.py").read_text()
    assert "view: books(): name and title of book" in wrote.out
    target = f"{module}_target:{function.capitalize()}Target"
    ran = command("sweep", "--target", target, "--quiet", "--plan", "sync:journal@1=IOERR_FSYNC")
    assert ran.code == code, ran


def test_a_context_manager_that_hands_out_a_connection_is_no_store(command: Command, tmp_path: Path) -> None:
    (tmp_path / "shelves4.py").write_text(SHELVES.replace("LAST", "db.commit()"))
    ended = command("new", "target", "--from", "shelves4:session")
    assert ended.code == 2
    assert "for a store of functions name their module alone: --from MODULE" in ended.err
