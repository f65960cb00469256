"""The Nth allocation of SQLite fails, and nothing else; the allocator is exchanged only beneath no connection."""

import contextlib
import ctypes
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults
from tornpage.faults.reach.library import reach


@pytest.fixture
def allocator() -> Iterator[faults.Allocator]:
    with faults.exact_allocations() as exact:
        yield exact


def fill(path: Path, mode: str = "wal") -> int:
    """Open, fill and close a database; the number of its rows."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}").fetchall()
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t(b) VALUES (randomblob(3000)), (zeroblob(9000))")
        connection.execute("COMMIT")
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchall():
            return 0
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def test_a_limit_that_is_none_counts_and_fails_nothing(allocator: faults.Allocator, tmp_path: Path) -> None:
    counted = faults.FailedAllocation(None)
    before = allocator.requests
    with counted.in_force():
        assert fill(tmp_path / "a.db") == 2
    assert counted.reached == allocator.requests - before > 100
    assert counted.fired == 0
    assert fill(tmp_path / "a.db") == 4
    assert counted.reached < allocator.requests - before


@pytest.mark.slow
@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_every_allocation_fails_and_the_transaction_is_there_or_not(
    allocator: faults.Allocator, tmp_path: Path, mode: str, *, sticky: bool
) -> None:
    fill(tmp_path / "warm.db", mode)
    counted = faults.FailedAllocation(None)
    with counted.in_force():
        fill(tmp_path / "counted.db", mode)
    raised = 0
    for at in range(1, counted.reached + 1):
        path = tmp_path / f"{at}.db"
        limit = faults.FailedAllocation(at, sticky=sticky)
        try:
            with limit.in_force():
                fill(path, mode)
        except (MemoryError, sqlite3.Error) as error:
            raised += limit.saw(error)
        assert limit.fired == (max(limit.reached - at + 1, 0) if sticky else int(limit.reached >= at))
        assert rows(path) in {0, 2}
        # With memory again, everything works again.
        assert fill(path, mode) in {2, 4}
    assert raised > 0.9 * counted.reached


def test_the_same_call_takes_the_same_allocations(allocator: faults.Allocator, tmp_path: Path) -> None:
    reached = []
    for number in range(4):
        counted = faults.FailedAllocation(None)
        with counted.in_force():
            fill(tmp_path / f"{number}.db")
        reached.append(counted.reached)
    assert len(set(reached[1:])) == 1


def test_outside_its_scope_nothing_fails(allocator: faults.Allocator, tmp_path: Path) -> None:
    limit = faults.FailedAllocation(1, sticky=True)
    with limit.in_force(), pytest.raises(MemoryError):
        fill(tmp_path / "a.db")
    assert fill(tmp_path / "a.db") == 2
    with limit.in_force(), pytest.raises(MemoryError):
        fill(tmp_path / "a.db")
    assert limit.fired >= 2


def test_the_allocator_is_not_exchanged_beneath_an_open_connection(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("CREATE TABLE t(a)")
        with pytest.raises(faults.AllocatorUnavailableError, match="a connection is open"), faults.exact_allocations():
            pass
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    with faults.exact_allocations() as exact:
        assert exact.installed
    assert not exact.installed


def test_a_connection_that_outlives_the_scope_goes_on_and_the_next_scope_cleans_up(tmp_path: Path) -> None:
    with faults.exact_allocations() as exact:
        late = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    assert exact.installed
    late.execute("CREATE TABLE t(a)")
    late.execute("INSERT INTO t VALUES(zeroblob(20000))")
    assert late.execute("SELECT count(*) FROM t").fetchone() == (1,)
    late.close()
    with faults.exact_allocations():
        pass
    assert not exact.installed


def test_the_allocator_is_not_exchanged_while_a_cursor_keeps_a_closed_connection_alive(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    rows = connection.execute("SELECT 1 UNION ALL SELECT 2")
    next(rows)
    connection.close()
    with pytest.raises(faults.AllocatorUnavailableError, match="in the middle of its rows"), faults.exact_allocations():
        pass
    del rows
    with faults.exact_allocations() as exact:
        assert exact.installed


def test_memory_that_no_connection_holds_is_in_nobody_s_way() -> None:
    assert reach(sqlite3).function("sqlite3_malloc", ctypes.c_void_p, ctypes.c_int)(100_000)
    with faults.exact_allocations() as exact:
        assert exact.installed
    assert not exact.installed


def test_without_its_scope_an_allocation_cannot_be_failed() -> None:
    with (
        pytest.raises(faults.AllocatorUnavailableError, match="exact_allocations"),
        faults.FailedAllocation(1).in_force(),
    ):
        pass


def test_the_shim_is_the_default_still_and_faults_fire(allocator: faults.Allocator, tmp_path: Path) -> None:
    with faults.install():
        with faults.exact_allocations(), faults.arm("write:wal@1=FULL", tmp_path) as armed:
            with pytest.raises(sqlite3.OperationalError, match="full"):
                fill(tmp_path / "a.db")
            assert armed.fired == 1
        assert fill(tmp_path / "a.db") == 2


def test_the_scope_may_begin_beneath_an_installed_shim(tmp_path: Path) -> None:
    with faults.install():
        with faults.exact_allocations() as exact, faults.arm("write:wal@1=FULL", tmp_path) as armed:
            with pytest.raises(sqlite3.OperationalError, match="full"):
                fill(tmp_path / "a.db")
            assert armed.fired == 1
        assert not exact.installed
        with faults.arm("write:wal@1=FULL", tmp_path) as armed, pytest.raises(sqlite3.OperationalError, match="full"):
            fill(tmp_path / "a.db")
        assert armed.fired == 1


INTERRUPTED = """
    import signal, sqlite3; from tornpage import faults

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    interrupts = 0
    with faults.exact_allocations() as exact:
        for number in range(60):
            connection = sqlite3.connect(":memory:")
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + number * 0.00003)
                with faults.FailedAllocation(None).in_force():
                    connection.execute("CREATE TABLE t(a)")
                    while True:
                        connection.execute("INSERT INTO t VALUES(zeroblob(5000))").fetchall()
            except KeyboardInterrupt:
                interrupts += 1
            connection.close()
    print(interrupts, exact.installed)
"""


def test_an_interrupt_amid_allocations_is_raised_and_nothing_breaks(child: Callable[..., Any]) -> None:
    done = child(INTERRUPTED)
    assert done.stderr == ""
    assert done.stdout.split() == ["60", "False"]
