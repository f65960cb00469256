"""First targets for stores by their kind: models as arguments, brokers, properties, and stores that write later."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

# A model with one field that is needed, as SQLModel and pydantic describe theirs, and a property that shows them.
HIVES = """
import sqlite3
from dataclasses import dataclass
from typing import Annotated

@dataclass
class Hive:
    name: str
    frames: int = 0

class Apiary:
    def __init__(self, path):
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS hive (name TEXT PRIMARY KEY, frames INTEGER)")
        self._inner = type("Inner", (), {})()
        self._inner.hives = dict(self._db.execute("SELECT name, frames FROM hive"))

    @property
    def hives(self) -> dict[str, int]:
        return dict(self._inner.hives)

    def save(self, hive: Annotated[Hive, "as it is now"]) -> None:
        FIRST
        self._db.execute("INSERT OR REPLACE INTO hive VALUES (?, ?)", (hive.name, hive.frames))
        LAST

    def close(self):
        self._db.close()
"""
REMEMBERS = "self._inner.hives[hive.name] = hive.frames"

# A call that fails returns that; in the broken one, memory has it all the same.
SETTINGS = """
import sqlite3
from dataclasses import dataclass

@dataclass
class Result:
    ok: bool
    error: str = ""

class Settings:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT)")
        self.values = dict(self.db.execute("SELECT name, value FROM settings"))

    def set(self, name: str, value: str) -> Result:
        FIRST
        try:
            self.db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
        except (sqlite3.Error, MemoryError) as error:
            return Result(False, str(error) or "no memory")
        LAST
        return Result(True)

    def names(self):
        for (name,) in self.db.execute("SELECT name FROM settings ORDER BY name"):
            yield name

    def close(self):
        self.db.close()
"""
KEEPS = "self.values[name] = value"

BROKER = """
import sqlite3

class Broker:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, topic TEXT, body TEXT, by TEXT)")

    def publish(self, topic: str, body: str) -> int:
        return self.db.execute("INSERT INTO message (topic, body) VALUES (?, ?)", (topic, body)).lastrowid

    def reserve(self, topic: str):
        query = "UPDATE message SET by = 'me' WHERE topic = ? AND by IS NULL RETURNING id, body"
        return self.db.execute(query, (topic,)).fetchall()

    def close(self):
        self.db.close()
"""

BUFFER = """
import sqlite3

class Samples:
    def __init__(self, path, batch: int = 50):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS sample (name TEXT PRIMARY KEY, value REAL)")
        self.batch, self.waiting = batch, []

    def record(self, name: str, value: float) -> None:
        self.waiting.append((name, value))
        if len(self.waiting) >= self.batch:
            self._write()

    def _write(self) -> None:
        self.db.executemany("INSERT OR REPLACE INTO sample VALUES (?, ?)", self.waiting)
        self.waiting.clear()

    def close(self):
        self._write()
        self.db.close()
"""
WITH_A_FLUSH = BUFFER + "\n    def flush(self):\n        self._write()\n"

COUNTER = """
import sqlite3

class Visits:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS visits (id INTEGER PRIMARY KEY, n INTEGER)")
        self.db.execute("INSERT OR IGNORE INTO visits VALUES (1, 0)")

    def count(self, by: int = 1) -> None:
        self.db.execute("UPDATE visits SET n = n + ?", (by,))

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize("is_first", [True, False])
def test_a_model_is_made_from_its_annotation_varied_and_seen_through_a_property(
    command: Command, tmp_path: Path, *, is_first: bool
) -> None:
    text = HIVES.replace("FIRST", REMEMBERS if is_first else "").replace("LAST", "" if is_first else REMEMBERS)
    (tmp_path / f"hives_{is_first}.py").write_text(text)
    wrote = command("new", "target", "--from", f"hives_{is_first}:Apiary")
    assert wrote.code == 0, wrote
    assert "view: hives: name and frames of hive" in wrote.out
    source = (tmp_path / f"hives_{is_first}_target.py").read_text()
    assert 'Action("save", {"hive": Hive(name="alpha")})' in source
    assert 'Action("save", {"hive": Hive(name="alpha", frames=1)})' in source
    one = ("--target", f"hives_{is_first}_target:ApiaryTarget", "--plan", "write:journal@1=FULL")
    swept = command("sweep", *one, "--quiet", "--jobs", 1)
    assert swept.code == int(is_first), swept
    assert ("memory has" in swept.out) is is_first


def test_a_model_of_sqlmodel_is_made(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("sqlmodel")
    (tmp_path / "shelves.py").write_text(
        """
from sqlmodel import Field, Session, SQLModel, create_engine

class Shelf(SQLModel, table=True):
    name: str = Field(primary_key=True)
    books: int = 0

class Shelves:
    def __init__(self, path):
        self.engine = create_engine(f"sqlite:///{path}")
        SQLModel.metadata.create_all(self.engine)

    def put(self, shelf: Shelf) -> None:
        with Session(self.engine) as session, session.begin():
            session.merge(shelf)

    def close(self):
        self.engine.dispose()
"""
    )
    wrote = command("new", "target", "--from", "shelves:Shelves")
    assert wrote.code == 0, wrote
    assert 'Action("put", {"shelf": Shelf(name="alpha", books=1)})' in (tmp_path / "shelves_target.py").read_text()


def test_a_broker_that_imports_no_network_library_may_publish(command: Command, tmp_path: Path) -> None:
    (tmp_path / "broker.py").write_text(BROKER)
    wrote = command("new", "target", "--from", "broker:Broker")
    assert wrote.code == 0, wrote
    assert "calls: publish, reserve\n" in wrote.out


STOCK = """
import sqlite3

class Stock:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS item (sku TEXT PRIMARY KEY, free INTEGER)")
        self.db.execute("CREATE TABLE IF NOT EXISTS hold (ref TEXT PRIMARY KEY, sku TEXT, first INTEGER, last INTEGER)")

    def supply(self, sku: str) -> None:
        self.db.execute("INSERT INTO item VALUES (?, 3) ON CONFLICT DO UPDATE SET free = free + 3", (sku,))

    def hold(self, ref: str, sku: str, first: int, last: int) -> None:
        if self.db.execute("UPDATE item SET free = free - 1 WHERE sku = ?", (sku,)).rowcount and last > first:
            self.db.execute("INSERT OR IGNORE INTO hold VALUES (?, ?, ?, ?)", (ref, sku, first, last))

    def close(self):
        self.db.close()
"""


def test_a_call_gets_the_values_of_others_and_ascending_numbers(command: Command, tmp_path: Path) -> None:
    (tmp_path / "stock.py").write_text(STOCK)
    wrote = command("new", "target", "--from", "stock:Stock")
    assert wrote.code == 0, wrote
    written = (tmp_path / "stock_target.py").read_text()
    assert 'Action("hold", {"ref": "alpha", "sku": "alpha", "first": 1, "last": 2})' in written


@pytest.mark.parametrize("imports", ["import smtplib", "from mailing import mail"])
def test_a_call_that_may_communicate_is_not_made_and_is_said(command: Command, tmp_path: Path, imports: str) -> None:
    (tmp_path / "mailing.py").write_text("import smtplib\n\ndef mail(): ...\n")
    module = f"outbox_{len(imports)}"
    (tmp_path / f"{module}.py").write_text(imports + BROKER.replace("INSERT", "NO SUCH"))
    try:
        wrote = command("new", "target", "--from", f"{module}:Broker")
    finally:
        sys.modules.pop("mailing", None)
    assert wrote.code == 2
    assert "publish (by its name it waits, communicates or handles connections)" in wrote.err
    assert "name a function that returns a store with another name for it" in wrote.err


@pytest.mark.parametrize(("text", "end"), [(BUFFER, "close"), (WITH_A_FLUSH, "flush")])
def test_a_store_that_writes_later_is_named_as_one(command: Command, tmp_path: Path, text: str, end: str) -> None:
    (tmp_path / f"samples_{end}.py").write_text(text)
    wrote = command("new", "target", "--from", f"samples_{end}:Samples")
    assert wrote.code == 2
    assert f"record (it writes nothing before `{end}`: let one method do both)" in wrote.err
    assert "it is a write-behind store" in wrote.err


def test_a_store_of_one_row_says_that_no_call_adds_one(command: Command, tmp_path: Path) -> None:
    (tmp_path / "visits.py").write_text(COUNTER)
    wrote = command("new", "target", "--from", "visits:Visits")
    assert wrote.code == 2
    assert "tried: count (it changed a row, and added none); a target needs a call that adds a row" in wrote.err


@pytest.mark.parametrize(
    ("module", "first", "last", "code"), [("settings1", "pass", KEEPS, 0), ("settings2", KEEPS, "pass", 1)]
)
def test_a_call_that_returns_its_failure_and_one_that_yields_are_judged(
    command: Command, tmp_path: Path, module: str, first: str, last: str, code: int
) -> None:
    (tmp_path / f"{module}.py").write_text(SETTINGS.replace("FIRST", first).replace("LAST", last))
    wrote = command("new", "target", "--from", f"{module}:Settings")
    assert wrote.code == 0, wrote
    assert "a call whose answer has a false `ok` has failed" in wrote.out
    assert 'Action("names")' in (tmp_path / f"{module}_target.py").read_text()
    ran = command("sweep", "--target", f"{module}_target:SettingsTarget", "--quiet", "--plan", "write@1=FULL")
    assert ran.code == code, ran
    assert "acknowledged-is-durable" not in ran.out
