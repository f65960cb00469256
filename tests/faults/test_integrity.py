"""SQLite's own check of a file whose schema names functions and collations of its program."""

from pathlib import Path
from typing import Final

import pytest

from tornpage.faults.integrity import problems_of
from tornpage.faults.sqlite_library import sqlite3

_SCHEMAS: Final = {
    "a CHECK": "CREATE TABLE t (a TEXT CHECK (is_name(a)))",
    "a key by a collation": "CREATE TABLE t (a TEXT PRIMARY KEY COLLATE by_name)",
    "a key by a collation, without rowid": "CREATE TABLE t (a TEXT PRIMARY KEY COLLATE by_name) WITHOUT ROWID",
    "an index by a collation": "CREATE TABLE t (a TEXT); CREATE INDEX i ON t (a COLLATE by_name)",
    "an index on an expression": "CREATE TABLE t (a TEXT); CREATE INDEX i ON t (is_name(a))",
    "a partial index": "CREATE TABLE t (a TEXT); CREATE INDEX i ON t (a) WHERE is_name(a)",
    "a generated column in an index": "CREATE TABLE t (a TEXT, b AS (is_name(a))); CREATE INDEX i ON t (b)",
}


def _made(path: Path, schema: str) -> None:
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.create_function("is_name", 1, bool, deterministic=True)
        connection.create_collation("by_name", lambda one, other: (one > other) - (one < other))
        connection.executescript(schema)
        connection.execute("INSERT INTO t (a) VALUES ('ada'), ('grace')")
    connection.close()


@pytest.mark.parametrize("schema", _SCHEMAS.values(), ids=_SCHEMAS)
def test_what_only_the_program_can_evaluate_is_no_damage(tmp_path: Path, schema: str) -> None:
    _made(tmp_path / "store.db", schema)
    connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    # It proves nothing where SQLite can check the whole file.
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("PRAGMA integrity_check").fetchall()

    assert problems_of(connection) == []
    connection.close()


@pytest.mark.parametrize("schema", _SCHEMAS.values(), ids=_SCHEMAS)
def test_damage_in_another_table_is_found_all_the_same(tmp_path: Path, schema: str) -> None:
    _made(tmp_path / "store.db", schema)
    connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    connection.executescript("""
        CREATE TABLE other (x TEXT, y TEXT); CREATE INDEX of_other ON other (x); INSERT INTO other VALUES ('1', '2');
        PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = 'CREATE INDEX of_other ON other (y)' WHERE name = 'of_other';
    """)
    connection.close()
    connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None)

    assert problems_of(connection) == ["row 1 missing from index of_other"]
    connection.close()


def test_damage_of_the_pages_of_a_table_with_a_function_is_found(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _made(path, _SCHEMAS["a CHECK"])
    content = bytearray(path.read_bytes())
    # The second page is the table's: its number of cells, which says that it is empty and has content.
    content[4096 + 3 : 4096 + 5] = b"\0\0"
    path.write_bytes(content)
    connection = sqlite3.connect(path, isolation_level=None)

    problems = problems_of(connection)

    assert problems
    assert "fragmentation" in problems[0].lower()
    connection.close()


# SQLite 3.40 takes the name, which comes first in the file, for the body.
_WITHOUT_ROWID: Final = "CREATE TABLE t (body TEXT NOT NULL, name TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID"


def test_a_null_that_only_the_check_of_an_old_sqlite_sees_is_no_damage() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(f"{_WITHOUT_ROWID}; INSERT INTO t VALUES ('one', 'a'), ('two', 'b'), ('three', 'c')")
    assert problems_of(connection) == []
    # Nor do its lines hide what is wrong.
    connection.executescript("""
        CREATE INDEX by_body ON t (body); PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = 'CREATE INDEX by_body ON t (name)' WHERE name = 'by_body';
        PRAGMA writable_schema = RESET;
    """)
    assert any("by_body" in line for line in problems_of(connection))
    connection.close()


def test_a_null_that_is_there_is_damage() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(f"""
        {_WITHOUT_ROWID.replace("body TEXT NOT NULL", "body TEXT")}; INSERT INTO t VALUES (NULL, 'a'), ('two', 'b');
        PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = '{_WITHOUT_ROWID}' WHERE name = 't';
        PRAGMA writable_schema = RESET;
    """)
    assert problems_of(connection)[0] == "NULL value in t.body"
    connection.close()
