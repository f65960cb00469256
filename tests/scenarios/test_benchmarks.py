"""The benchmarks run and print what they promise; no time is asserted, only what was measured and how."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not part of the wheel")


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.warm

    return benchmarks.warm


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT UNIQUE, value)")
        made.execute("CREATE TABLE tags (note INTEGER, tag TEXT)")
        made.executemany("INSERT INTO notes VALUES (?, ?, ?)", [(1, "a", 1), (2, "b", None), (5, "c", b"\0")])
        made.execute("INSERT INTO tags VALUES (1, 'x')")
        yield made


def dump(connection: sqlite3.Connection) -> list[Any]:
    tables = ("notes", "tags")
    return [connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall() for table in tables]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM notes",
        "UPDATE notes SET value = 'other' WHERE id = 2",
        "INSERT INTO notes VALUES (3, 'd', 4)",
        "UPDATE notes SET name = CASE id WHEN 1 THEN 'b2' ELSE 'a' END WHERE id < 3",
        "UPDATE notes SET id = 9 WHERE id = 5",
        "UPDATE tags SET note = 7",
    ],
)
def test_the_undo_puts_every_row_back(warm: Any, connection: sqlite3.Connection, change: str) -> None:
    before, rows = dump(connection), warm.Rows(connection)
    connection.execute(change)
    assert dump(connection) != before
    rows.restore(connection)
    assert dump(connection) == before
    assert not connection.in_transaction


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER DELETE ON notes BEGIN DELETE FROM tags; END",
        "CREATE TABLE w (key TEXT PRIMARY KEY) WITHOUT ROWID",
    ],
)
def test_what_cannot_be_undone_is_refused(warm: Any, connection: sqlite3.Connection, statement: str) -> None:
    connection.execute(statement)
    with pytest.raises(warm.NotUndoneError):
        warm.Rows(connection)


def test_a_changed_schema_is_not_taken_for_an_undo(warm: Any, connection: sqlite3.Connection) -> None:
    rows = warm.Rows(connection)
    connection.execute("CREATE TABLE more (x)")
    with pytest.raises(warm.NotUndoneError, match="schema"):
        rows.restore(connection)


@pytest.mark.slow
def test_one_command_prints_every_ratio_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert {"quick", "python_version", "sqlite_version", "cpus", "watched_operation_us", "ratios"} <= data.keys()
    points = {f"{kind} point{checks}" for kind in ("cold", "warm") for checks in ("", ", all its checks")}
    assert {ratio["name"] for ratio in data["ratios"]} == points | {"shim", "watched", "ledger", "crash state"}
    for ratio in data["ratios"]:
        assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"], ratio
        assert ratio["holds"] in (None, True, False)
    assert list(tmp_path.iterdir()) == []
