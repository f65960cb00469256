"""Heap, pages and steps: each limit is met for real, is told, and is gone afterwards."""

import contextlib
import gc
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornpage import faults


@pytest.fixture
def connections() -> faults.Connections:
    return faults.Connections(faults.StatementDepth().connect)


@pytest.fixture
def connection(connections: faults.Connections, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = connections.connect(tmp_path / "a.db", isolation_level=None)
    with contextlib.closing(opened):
        opened.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        yield opened


def grow(connection: sqlite3.Connection, size_bytes: int = 40_000) -> None:
    connection.execute("INSERT INTO t(b) VALUES(randomblob(?))", (size_bytes,))


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def test_a_heap_limit_is_met_and_gone_again(connection: sqlite3.Connection) -> None:
    measured = faults.HeapLimit(None)
    with measured.in_force():
        grow(connection)
    assert measured.reached > 40_000
    limit = faults.HeapLimit(measured.reached // 2)
    with limit.in_force(), pytest.raises(MemoryError) as raised:
        grow(connection)
    assert limit.saw(raised.value)
    assert (limit.fired, limit.surfaced) == (1, 1)
    if connection.in_transaction:
        connection.rollback()
    assert count(connection) == 1
    grow(connection, 400_000)
    assert count(connection) == 2


def test_every_page_that_is_missing_makes_the_disk_full(
    connection: sqlite3.Connection, connections: faults.Connections
) -> None:
    measured = faults.PageLimit(connections, None)
    with measured.in_force():
        grow(connection)
    assert measured.reached == 9
    for extra_pages in range(9):
        limit = faults.PageLimit(connections, extra_pages)
        with limit.in_force(), pytest.raises(sqlite3.OperationalError, match="database or disk is full") as raised:
            grow(connection)
        assert raised.value.sqlite_errorname == "SQLITE_FULL"
        assert limit.saw(raised.value)
        assert not connection.in_transaction
        assert count(connection) == 1
    with faults.PageLimit(connections, 20).in_force():
        grow(connection)
    assert count(connection) == 2


def test_a_database_that_is_opened_under_a_page_limit_has_it(connections: faults.Connections, tmp_path: Path) -> None:
    with (
        faults.PageLimit(connections, 1).in_force(),
        contextlib.closing(connections.connect(tmp_path / "new.db", isolation_level=None)) as late,
    ):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            late.execute("CREATE TABLE t(a)")
        assert late.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_the_limit_on_pages_that_the_store_had_itself_is_there_again(
    connection: sqlite3.Connection, connections: faults.Connections
) -> None:
    connection.execute("PRAGMA max_page_count=1000")
    with faults.PageLimit(connections, 3).in_force():
        assert connection.execute("PRAGMA max_page_count").fetchone() == (5,)
    assert connection.execute("PRAGMA max_page_count").fetchone() == (1000,)


def test_every_step_can_be_the_one_that_is_interrupted(
    connection: sqlite3.Connection, connections: faults.Connections
) -> None:
    statement = (
        "INSERT INTO t(b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n"
    )
    connection.execute(statement)  # To compile it takes steps of its own.
    measured = faults.Interruption(connections, None)
    with measured.in_force():
        connection.execute(statement)
    assert measured.reached > 50
    # Whether all five rows are there after an interrupt at each step: at its very last one the change is made already.
    outcomes = []
    for at in range(1, measured.reached + 1):
        connection.execute("DELETE FROM t")
        limit = faults.Interruption(connections, at)
        with limit.in_force(), pytest.raises(sqlite3.OperationalError, match="interrupted") as raised:
            connection.execute(statement)
        assert raised.value.sqlite_errorname == "SQLITE_INTERRUPT"
        assert limit.saw(raised.value)
        assert limit.fired == 1
        outcomes.append(count(connection))
    assert set(outcomes) <= {0, 5}
    assert outcomes[: len(outcomes) // 2] == [0] * (len(outcomes) // 2)


def test_an_interruption_from_a_step_on_hits_each_statement(
    connection: sqlite3.Connection, connections: faults.Connections
) -> None:
    limit = faults.Interruption(connections, 1, sticky=True)
    with limit.in_force():
        for fired in range(1, 4):
            with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                count(connection)
            assert limit.fired >= fired
    assert count(connection) == 0


def test_a_closed_connection_and_one_that_is_gone_are_left_alone(
    connections: faults.Connections, tmp_path: Path
) -> None:
    closed = connections.connect(tmp_path / "closed.db")
    closed.close()
    connections.connect(tmp_path / "gone.db").close()
    gc.collect()
    for limit in (faults.PageLimit(connections, 0), faults.Interruption(connections, 1)):
        with limit.in_force():
            pass
        assert (limit.reached, limit.fired) == (0, 0)
    assert connections.opened() == [closed]


def test_an_error_without_a_limit_that_was_met_came_of_something_else(connections: faults.Connections) -> None:
    limit = faults.Interruption(connections, 7)
    assert not limit.saw(sqlite3.OperationalError("another"))
    assert not faults.PageLimit(connections, 7).saw(ValueError("no error of SQLite's"))
    assert limit.surfaced == 0
