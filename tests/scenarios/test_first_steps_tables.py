"""First targets for stores whose calls write to several tables: the view has all of them; a torn call is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

BASE = """
import contextlib, sqlite3

class Base:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.executescript(self.SCHEMA)

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

    @contextlib.contextmanager
    def _each(self):
        yield

    def close(self):
        self.db.close()
"""
# Each call adds to one table and adds to, or changes, another one, which has a column that SQLite generates.
SALES = """
class Sales(Base):
    SCHEMA = '''CREATE TABLE IF NOT EXISTS sales (id TEXT PRIMARY KEY, amount INTEGER);
                CREATE TABLE IF NOT EXISTS totals (what TEXT PRIMARY KEY, n INTEGER, twice AS (2 * n));'''

    def sell(self, id: str, amount: int):
        with self._whole():
            self.db.execute("INSERT INTO sales VALUES (?, ?)", (id, amount))
            self.db.execute(
                "INSERT INTO totals VALUES ('sum', ?) ON CONFLICT (what) DO UPDATE SET n = n + excluded.n", (amount,)
            )
"""
HOOKS = """
class Hooks(Base):
    SCHEMA = '''CREATE TABLE IF NOT EXISTS hooks (id INTEGER PRIMARY KEY, url TEXT UNIQUE);
                CREATE TABLE IF NOT EXISTS sent (id INTEGER PRIMARY KEY, hook INTEGER, state TEXT);'''

    def register(self, url):
        with self._whole():
            self.db.execute("INSERT OR IGNORE INTO hooks (url) VALUES (?)", (url,))
            (hook,) = self.db.execute("SELECT id FROM hooks WHERE url = ?", (url,)).fetchone()
            self.db.execute("INSERT INTO sent (hook, state) VALUES (?, 'ping')", (hook,))
            return hook
"""
# One table is empty when the others have most rows.
INBOX = """
class Inbox(Base):
    SCHEMA = '''CREATE TABLE IF NOT EXISTS inbox (id INTEGER PRIMARY KEY, text TEXT);
                CREATE TABLE IF NOT EXISTS archive (id INTEGER PRIMARY KEY, text TEXT);'''

    def receive(self, text):
        self.db.execute("INSERT INTO inbox (text) VALUES (?)", (text,))

    def archive_all(self):
        with self._whole():
            self.db.execute("INSERT INTO archive SELECT * FROM inbox WHERE true ON CONFLICT DO NOTHING")
            self.db.execute("DELETE FROM inbox")
"""
# Opening writes a row, which each call changes.
COUNTED = """
class Counted(Base):
    SCHEMA = '''CREATE TABLE IF NOT EXISTS parts (id TEXT PRIMARY KEY);
                CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY, n INTEGER);
                CREATE TABLE IF NOT EXISTS version (number INTEGER);
                INSERT INTO version SELECT 1 WHERE NOT EXISTS (SELECT * FROM version);
                INSERT OR IGNORE INTO total VALUES (1, 0);'''

    def add(self, id: str):
        with self._whole():
            self.db.execute("INSERT OR REPLACE INTO parts VALUES (?)", (id,))
            self.db.execute("UPDATE total SET n = (SELECT count(*) FROM parts)")
"""
# A call writes the rows anew, as they were.
REBUILT = """
class Rebuilt(Base):
    SCHEMA = "CREATE TABLE IF NOT EXISTS parts (id TEXT PRIMARY KEY)"

    def add(self, id: str):
        self.db.execute("INSERT OR REPLACE INTO parts VALUES (?)", (id,))

    def vacuum(self):
        with self._whole():
            rows = self.db.execute("SELECT id FROM parts").fetchall()
            self.db.execute("DELETE FROM parts")
            self.db.executemany("INSERT INTO parts VALUES (?)", rows)
"""


@pytest.mark.parametrize(
    ("source", "name", "tables"),
    [
        (SALES, "Sales", "sales, totals"),
        (HOOKS, "Hooks", "hooks, sent"),
        (INBOX, "Inbox", "inbox, archive"),
        (COUNTED, "Counted", "parts, total"),
        (REBUILT, "Rebuilt", "parts"),
    ],
)
@pytest.mark.parametrize("is_torn", [False, True])
def test_every_table_that_a_call_writes_is_in_the_view(
    command: Command, tmp_path: Path, source: str, name: str, tables: str, is_torn: bool
) -> None:
    module = f"tables_of_{name.lower()}{'_torn' if is_torn else ''}"
    text = source.replace("self._whole()", "self._each()") if is_torn else source
    (tmp_path / f"{module}.py").write_text(BASE + text)
    wrote = command("new", "target", "--from", f"{module}:{name}")
    assert f"view: {tables}, through store.db" in wrote.out
    assert "not checked" not in wrote.out
    swept = command("sweep", "--target", f"{module}_target:{name}Target", "--quiet", "--jobs", 1)
    assert swept.code == is_torn, swept
    assert ("all-or-nothing" in swept.out) is is_torn


# Memory is changed before the COMMIT.
CACHED = """
class Cached(Base):
    SCHEMA = "CREATE TABLE IF NOT EXISTS sales (id TEXT PRIMARY KEY, n INT); CREATE TABLE IF NOT EXISTS sums (k, n)"

    def __init__(self, path):
        super().__init__(path)
        self.sums = dict(self.db.execute("SELECT k, n FROM sums"))

    def sell(self, id: str, n: int):
        with self._whole():
            self.db.execute("INSERT INTO sales VALUES (?, ?)", (id, n))
            self.sums["sum"] = self.sums.get("sum", 0) + n
            self.db.execute("DELETE FROM sums")
            self.db.execute("INSERT INTO sums VALUES ('sum', ?)", (self.sums["sum"],))
"""


def test_a_view_in_memory_is_joined_by_the_other_tables(command: Command, tmp_path: Path) -> None:
    (tmp_path / "tables_in_memory.py").write_text(BASE + CACHED)
    wrote = command("new", "target", "--from", "tables_in_memory:Cached")
    assert "view: sums: k and n of sums" in wrote.out
    assert "view: sales, through store.db" in wrote.out
    swept = command("sweep", "--target", "tables_in_memory_target:CachedTarget", "--quiet", "--jobs", 1)
    assert swept.code == 1
    assert "sums/sum: memory has" in swept.out


PEOPLE = """
class People(Base):
    SCHEMA = "CREATE TABLE IF NOT EXISTS people (name TEXT PRIMARY KEY, mail TEXT UNIQUE)"

    def add(self, name, mail):
        self.db.execute("INSERT OR REPLACE INTO people VALUES (?, ?)", (name, mail))

    def remove(self, name):
        self.db.execute("DELETE FROM people WHERE name = ?", (name,))
"""


def test_a_beat_has_its_own_value_in_each_unique_column(command: Command, tmp_path: Path) -> None:
    (tmp_path / "tables_of_people.py").write_text(BASE + PEOPLE)
    wrote = command("new", "target", "--from", "tables_of_people:People")
    assert wrote.code == 0
    target = (tmp_path / "tables_of_people_target.py").read_text()
    # With the mail of another one it would replace that one, but only between the calls.
    assert 'beat = Action("add", {"name": "heartbeat", "mail": "heartbeat"})' in target


ATTACHED = """
import sqlite3
from pathlib import Path

class Attached:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("ATTACH ? AS archive", (str(Path(path).with_name("archive.sqlite")),))
        self.db.execute("CREATE TABLE IF NOT EXISTS main.live (k TEXT PRIMARY KEY, v TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS archive.old (k TEXT PRIMARY KEY, v TEXT)")

    def put(self, k, v):
        self.db.execute("REPLACE INTO live VALUES (?, ?)", (k, v))

    def close(self):
        self.db.close()
"""


def test_the_file_that_a_store_was_given_is_its_database(command: Command, tmp_path: Path) -> None:
    (tmp_path / "tables_attached.py").write_text(ATTACHED)
    wrote = command("new", "target", "--from", "tables_attached:Attached")
    assert "view: live, through store.db" in wrote.out
    assert "not checked: the database archive.sqlite; let view and rows read it, too" in wrote.out


# Rows that are in the other database alone; and calls of which only one that needs such a row adds one to the first.
ONLY_THERE = ATTACHED.replace("INTO live", "INTO archive.old")
NEEDS_IT = (
    ONLY_THERE
    + """
    def use(self, k):
        if self.db.execute("DELETE FROM archive.old WHERE k = ?", (k,)).rowcount != 1:
            raise KeyError(k)
        self.db.execute("INSERT INTO live (k) VALUES (?)", (k,))
"""
)


@pytest.mark.parametrize("source", [ONLY_THERE, NEEDS_IT], ids=["only_there", "needs_it"])
def test_where_what_is_missed_may_be_in_another_database_that_is_said(
    command: Command, tmp_path: Path, source: str
) -> None:
    module = f"tables_elsewhere_{len(source)}"
    (tmp_path / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{module}:Attached")
    assert wrote.code == 2
    assert "archive.sqlite was not read: let view and rows read it, too: docs/your-own-store.md#" in wrote.err


# Each transfer is two rows of one table; in the broken one, in two transactions.
BOOKS = """
import sqlite3

class Book:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS posting (id INTEGER PRIMARY KEY, number, account, amount)")

    def transfer(self, number, source, to, amount: int):
        BEGIN
        for account, signed in ((source, -amount), (to, amount)):
            self.db.execute("INSERT INTO posting (number, account, amount) VALUES (?, ?, ?)", (number, account, signed))
        END

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize(
    ("module", "begin", "end", "code"),
    [
        ("books1", 'self.db.execute("BEGIN")', 'self.db.execute("COMMIT")', 0),
        ("books2", "pass", "pass", 1),
    ],
)
def test_several_rows_of_one_call_are_one_key(
    command: Command, tmp_path: Path, module: str, begin: str, end: str, code: int
) -> None:
    (tmp_path / f"{module}.py").write_text(BOOKS.replace("BEGIN\n", f"{begin}\n").replace("END\n", f"{end}\n"))
    wrote = command("new", "target", "--from", f"{module}:Book")
    assert wrote.code == 0, wrote
    assert "view: posting by number, through store.db" in wrote.out
    target = (tmp_path / f"{module}_target.py").read_text()
    assert 'beat = Action("transfer", {"number": "heartbeat", "source": "one", "to": "one", "amount": 1})' in target
    ran = command(
        "sweep", "--target", f"{module}_target:BookTarget", "--quiet", "--plan", "delete:journal@2=IOERR_DELETE"
    )
    assert ("all-or-nothing" in ran.out) == bool(code), ran


# What a list of titles does not say is their order; in the broken one it changes in two transactions.
PLAYLISTS = """
import sqlite3

class Playlist:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS track (title TEXT PRIMARY KEY, position INTEGER)")

    def add(self, title: str):
        self.db.execute("INSERT OR IGNORE INTO track SELECT ?, count(*) FROM track", (title,))

    def to_front(self, title: str):
        BEGIN
        self.db.execute("UPDATE track SET position = position + 1")
        self.db.execute("UPDATE track SET position = 0 WHERE title = ?", (title,))
        END

    def titles(self):
        return [title for (title,) in self.db.execute("SELECT title FROM track ORDER BY position")]

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize(
    ("module", "begin", "end", "code"),
    [
        ("playlists1", 'self.db.execute("BEGIN")', 'self.db.execute("COMMIT")', 0),
        ("playlists2", "pass", "pass", 1),
    ],
)
def test_columns_that_the_store_does_not_answer_are_in_the_view_too(
    command: Command, tmp_path: Path, module: str, begin: str, end: str, code: int
) -> None:
    (tmp_path / f"{module}.py").write_text(PLAYLISTS.replace("BEGIN\n", f"{begin}\n").replace("END\n", f"{end}\n"))
    wrote = command("new", "target", "--from", f"{module}:Playlist")
    assert wrote.code == 0, wrote
    assert "view: titles(): title of track, beside position through store.db" in wrote.out
    plan = "delete:journal@2=IOERR_DELETE"
    ran = command("sweep", "--target", f"{module}_target:PlaylistTarget", "--quiet", "--plan", plan)
    assert ("all-or-nothing" in ran.out) == bool(code), ran


# Two rows may have one title: as the keys of a view two of them would look like one.
TODOS = """
import sqlite3

class Todos:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS todo (id INTEGER PRIMARY KEY, title TEXT UNIQUENESS, done INTEGER)")

    def add(self, title):
        self.db.execute("INSERT INTO todo (title, done) VALUES (?, 0)", (title,))

    def titles(self):
        return [title for (title,) in self.db.execute("SELECT title FROM todo")]

    def remove(self, id: int):
        self.db.execute("DELETE FROM todo WHERE id = ?", (id,))

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize(
    ("uniqueness", "view"),
    [("", "view: todo, through store.db"), (" UNIQUE", "view: titles(): title of todo, beside done through store.db")],
)
def test_a_list_of_what_is_not_unique_is_no_view(command: Command, tmp_path: Path, uniqueness: str, view: str) -> None:
    module = f"todos{len(uniqueness)}"
    (tmp_path / f"{module}.py").write_text(TODOS.replace(" UNIQUENESS", uniqueness))
    wrote = command("new", "target", "--from", f"{module}:Todos")
    assert wrote.code == 0, wrote
    assert view in wrote.out


# Opening writes default rows, and reads them all into memory.
PREFERENCES = """
class Preferences(Base):
    SCHEMA = '''CREATE TABLE IF NOT EXISTS prefs (name TEXT PRIMARY KEY, value TEXT);
                INSERT OR IGNORE INTO prefs VALUES ('theme', 'light'), ('size', 'small');'''

    def __init__(self, path):
        super().__init__(path)
        self.values = dict(self.db.execute("SELECT name, value FROM prefs"))

    def put(self, name: str, value: str):
        self.db.execute("INSERT OR REPLACE INTO prefs VALUES (?, ?)", (name, value))
        self.values[name] = value
"""


def test_default_rows_are_left_out_of_the_view(command: Command, tmp_path: Path) -> None:
    (tmp_path / "default_rows.py").write_text(BASE + PREFERENCES)
    wrote = command("new", "target", "--from", "default_rows:Preferences")
    assert "view: values: name and value of prefs" in wrote.out
    text = (tmp_path / "default_rows_target.py").read_text()
    assert "BEGINS_WITH = {'prefs/theme': 'light', 'prefs/size': 'small'}" in text
    assert "return new({" in text
