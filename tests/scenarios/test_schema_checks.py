"""What a file's own schema says has to hold: its foreign keys, and its full-text indexes; sound stores stay silent."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import others_stores
import pytest

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.generic_checks.schema_checks import require_foreign_keys, require_full_text
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def test_a_key_that_leads_nowhere_is_named(db: sqlite3.Connection) -> None:
    db.executescript(
        "CREATE TABLE a(id INTEGER PRIMARY KEY); CREATE TABLE b(a REFERENCES a(id)); INSERT INTO b VALUES(7)"
    )
    with pytest.raises(Violation, match="row 1 of b refers to no row of a"):
        require_foreign_keys(db)


def test_rows_without_a_rowid_are_told_once(db: sqlite3.Connection) -> None:
    db.executescript(
        "CREATE TABLE a(id INTEGER PRIMARY KEY); CREATE TABLE b(k PRIMARY KEY, a REFERENCES a(id)) WITHOUT ROWID;"
        "INSERT INTO b VALUES(1, 7), (2, 8)"
    )
    with pytest.raises(Violation, match=r"foreign_key_check: a row of b refers to no row of a\. The schema"):
        require_foreign_keys(db)


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE a(id); CREATE TABLE b(a REFERENCES a(id)); INSERT INTO b VALUES(7)",
        "CREATE TABLE a(id INTEGER PRIMARY KEY); CREATE TABLE b(a REFERENCES a(id)); INSERT INTO b VALUES(NULL)",
        "CREATE TABLE b(a REFERENCES b(a))",
        "",
    ],
)
def test_a_key_that_can_not_be_checked_or_holds_accuses_nobody(schema: str, db: sqlite3.Connection) -> None:
    db.executescript(schema)
    require_foreign_keys(db)


MODULES = ["fts5(text)", "fts5(text, content='doc', content_rowid='id')", "fts4(text)", "fts4(content='doc', text)"]


@pytest.mark.parametrize("module", MODULES)
def test_a_full_text_index_that_fits_is_left_alone_and_nothing_is_written(module: str, db: sqlite3.Connection) -> None:
    db.executescript(f"CREATE TABLE doc(id INTEGER PRIMARY KEY, text); CREATE VIRTUAL TABLE f USING {module}")
    db.executescript("INSERT INTO doc VALUES(1, 'one two'); INSERT INTO f(rowid, text) VALUES(1, 'one two')")
    changes = db.total_changes
    require_full_text(db)
    assert db.execute("SELECT count(*) FROM f WHERE f MATCH 'two'").fetchone() == (1,)
    assert db.total_changes - changes in (0, 1)


@pytest.mark.parametrize("module", [one for one in MODULES if "content" in one])
def test_an_index_that_lags_behind_its_content_is_found(module: str, db: sqlite3.Connection) -> None:
    db.executescript(f"CREATE TABLE doc(id INTEGER PRIMARY KEY, text); CREATE VIRTUAL TABLE f USING {module}")
    db.execute("INSERT INTO doc VALUES(1, 'one two')")
    with pytest.raises(Violation, match="full-text index f does not match its content"):
        require_full_text(db)


def test_what_can_not_be_looked_at_accuses_nobody(db: sqlite3.Connection) -> None:
    db.executescript("CREATE VIRTUAL TABLE f USING fts5(text, content=''); INSERT INTO f(rowid, text) VALUES(1, 'one')")
    db.executescript("CREATE TABLE d(text); CREATE VIRTUAL TABLE g USING fts5(text, content='d'); DROP TABLE d")
    require_full_text(db)


# -- whole stores ------------------------------------------------------------------------------------------------------


class Family(others_stores.Shelf):
    """Parents and children; children go with their parents, on the connection that removes them."""

    schema = "CREATE TABLE IF NOT EXISTS item(key TEXT PRIMARY KEY, value REFERENCES item(key) ON DELETE CASCADE)"
    holds = True

    def set_up(self) -> None:
        super().set_up()
        self.db.execute("PRAGMA foreign_keys = ON")

    def put(self, key: str, value: object = None) -> None:
        super().put(key, value)

    def remove(self, key: str) -> None:
        other = sqlite3.connect(self.path, isolation_level=None)
        try:
            other.execute(f"PRAGMA foreign_keys = {int(self.holds)}")
            other.execute("DELETE FROM item WHERE key = ?", (key,))
        finally:
            other.close()


class SoundFamily(others_stores.ShelfTarget):
    kind = Family
    calls = (
        Action("put", {"key": "parent"}),
        Action("put", {"key": "child", "value": "parent"}),
        Action("remove", {"key": "parent"}),
    )


class Orphans(SoundFamily):
    class kind(Family):  # noqa: N801 - the attribute's name
        holds = False


class Library(others_stores.Shelf):
    """Texts, and an index over them that triggers keep."""

    def set_up(self) -> None:
        super().set_up()
        self.db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS found USING fts5(value, content='item')")
        for name, (when, row) in self.triggers.items():
            self.db.execute(f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {when} ON item BEGIN {row}; END")

    _out = "INSERT INTO found(found, rowid, value) VALUES('delete', old.rowid, old.value)"
    _in = "INSERT INTO found(rowid, value) VALUES(new.rowid, new.value)"
    triggers: ClassVar = {"put": ("INSERT", _in), "gone": ("DELETE", _out), "changed": ("UPDATE", f"{_out}; {_in}")}

    def put(self, key: str, value: object = "a text") -> None:
        self.db.execute(
            "INSERT INTO item VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, str(value))
        )


class SoundLibrary(others_stores.ShelfTarget):
    kind = Library
    calls = (Action("put", {"key": "a", "value": "one"}), Action("put", {"key": "a", "value": "two"}))


class IndexesOldTexts(SoundLibrary):
    """What is changed is not indexed anew."""

    class kind(Library):  # noqa: N801
        triggers: ClassVar = {name: one for name, one in Library.triggers.items() if name != "changed"}


@pytest.mark.parametrize("target", [SoundFamily, SoundLibrary])
def test_a_store_that_keeps_to_its_own_schema_is_left_alone(target: Any, search: Search) -> None:
    assert [found.finding.message for found in search(target(), points=20).findings] == []


@pytest.mark.parametrize(("target", "words"), [(Orphans, "foreign_key_check"), (IndexesOldTexts, "full-text index")])
def test_a_store_that_breaks_its_own_schema_is_found_without_a_fault(
    target: Any, words: str, search: Search, home: Path
) -> None:
    recorder = search(target(), points=4)
    first = recorder.findings[0].finding
    assert (first.code, first.scenario.faults) == ("integrity", 0)
    assert words in first.message
    again, _ = play(first.scenario, target(), home / "again")
    assert again is not None
    assert words in again.message
