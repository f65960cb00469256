"""Turns: only one of two callers runs at a time, and both are switched where they were told to be."""

import contextlib
import pickle
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from tornpage import faults
from tornpage.faults.contention.caller import Caller
from tornpage.faults.contention.lines import line_of
from tornpage.faults.contention.schedule import Deadlock, alone, switch
from tornpage.faults.contention.turns import Ended, Gate, Paused, Waiting

Two = Callable[..., tuple[Caller, Caller]]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with faults.install() as shim, faults.waiting_in_virtual_time(shim):
        gate, made = Gate(), []
        with shim.watching(faults.OnPath(gate, tmp_path)):

            def callers(*, at_calls: bool = False, at_requests: bool = False) -> tuple[Caller, Caller]:
                made.extend(Caller(name, gate, at_calls=at_calls, at_requests=at_requests) for name in "AB")
                return made[0], made[1]

            yield callers
            for one in made:
                one.close()


@pytest.fixture
def kept() -> Iterator[list[sqlite3.Connection]]:
    """Connections that are closed when their callers are gone; to be asked for before `two`."""
    connections: list[sqlite3.Connection] = []
    yield connections
    for one in connections:
        one.close()


def connect(path: Path, **options: Any) -> sqlite3.Connection:
    connection = sqlite3.connect(path / "t.db", isolation_level=None, **options)
    connection.execute("CREATE TABLE IF NOT EXISTS t (n)")
    return connection


def test_a_caller_stops_before_the_lock_that_it_was_told(two: Two, tmp_path: Path) -> None:
    one, other = two()
    first, second = one.do(lambda: connect(tmp_path)), other.do(lambda: connect(tmp_path))
    one.start(lambda: first.execute("INSERT INTO t VALUES (1)").rowcount, frozenset({2}))
    other.start(lambda: second.execute("SELECT count(*) FROM t").fetchall())
    hops = switch(one, other)
    assert [hop.caller for hop in hops] == ["A", "B", "A"]
    assert isinstance(hops[0].event, Paused)
    assert hops[0].event.point.operation == "lock"
    assert "test_turns.py" in str(hops[0].event.point.where)
    assert hops[1].event.result == [(0,)]  # type: ignore[union-attr] # it has ended
    one.do(first.close)
    other.do(second.close)


def test_who_waits_for_a_lock_gives_way_and_no_time_passes(two: Two, tmp_path: Path) -> None:
    one, other = two()
    first, second = one.do(lambda: connect(tmp_path)), other.do(lambda: connect(tmp_path, timeout=3_600))

    def slowly() -> None:
        first.execute("BEGIN IMMEDIATE")
        time.sleep(1_000)
        first.execute("COMMIT")

    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    one.start(slowly)
    other.start(lambda: second.execute("INSERT INTO t VALUES (2)").rowcount)
    one.go()
    hops = switch(other, one)
    assert [type(hop.event) for hop in hops] == [Waiting, Ended, Ended]
    assert [hop.caller for hop in hops] == ["B", "A", "B"]
    assert time.clock_gettime(time.CLOCK_MONOTONIC) - began < 20
    one.do(first.close)
    other.do(second.close)


def test_who_is_blocked_by_a_lock_of_pythons_gives_way(two: Two, tmp_path: Path) -> None:
    one, other = two(at_calls=True)
    lock = threading.Lock()
    shared = one.do(lambda: connect(tmp_path, check_same_thread=False))

    def both(caller: Caller) -> None:
        with caller.watching(), lock:
            shared.execute("INSERT INTO t VALUES (1)")
            shared.execute("INSERT INTO t VALUES (2)")

    one.start(lambda: both(one), frozenset({2}))
    other.start(lambda: both(other))
    hops = switch(one, other)
    assert [hop.caller for hop in hops] == ["A", "B", "A", "B"]
    assert isinstance(hops[1].event, Waiting)
    assert hops[1].event.for_what == "blocked"
    assert one.do(lambda: shared.execute("SELECT count(*) FROM t").fetchall()) == [(4,)]
    one.do(shared.close)


@pytest.mark.parametrize("fails", [False, True])
def test_who_waits_for_a_lock_gets_it_before_its_holder_takes_it_again(two: Two, tmp_path: Path, fails: bool) -> None:
    one, other = two(at_calls=True, at_requests=True)
    shared, lock = one.do(lambda: connect(tmp_path, check_same_thread=False)), threading.Lock()

    def adds_one() -> None:
        with contextlib.suppress(LookupError), lock:
            found = shared.execute("SELECT count(*) FROM t").fetchone()[0]
            if fails:
                raise LookupError
        with lock:
            shared.execute("INSERT INTO t VALUES (?)", (found,))

    def watched(caller: Caller) -> None:
        with caller.watching():
            adds_one()

    for _ in range(5):
        shared.execute("DELETE FROM t")
        # The first one stops with the lock.
        one.start(lambda: watched(one), frozenset({1}))
        other.start(lambda: watched(other))
        switch(one, other)
        assert one.do(lambda: shared.execute("SELECT n FROM t").fetchall()) == [(0,), (0,)]
    one.do(shared.close)


def test_what_is_done_between_two_schedules_counts_no_calls(two: Two, tmp_path: Path) -> None:
    one, _ = two(at_calls=True)
    shared = one.do(lambda: connect(tmp_path, check_same_thread=False))
    assert one.called == []

    def work() -> None:
        shared.execute("INSERT INTO t VALUES (0)")
        with one.watching():
            shared.execute("INSERT INTO t VALUES (1)")

    one.start(work)
    alone(one)
    one.do(shared.close)
    assert one.called == [shared]


def test_two_databases_locked_in_two_orders_are_a_deadlock(
    kept: list[sqlite3.Connection], two: Two, tmp_path: Path
) -> None:
    one, other = two()

    def make() -> sqlite3.Connection:
        connection = connect(tmp_path, check_same_thread=False)
        kept.append(connection)
        connection.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        connection.execute("CREATE TABLE IF NOT EXISTS other.u (n)")
        return connection

    first, second = one.do(make), other.do(make)

    def fill(connection: sqlite3.Connection, *tables: str) -> None:
        connection.execute("BEGIN")
        for table in tables:
            connection.execute(f"INSERT INTO {table} VALUES (1)")
            time.sleep(1)
        connection.execute("COMMIT")

    one.start(lambda: fill(first, "main.t", "other.u"))
    other.start(lambda: fill(second, "other.u", "main.t"))
    with pytest.raises(Deadlock, match="wait for each other") as found:
        switch(one, other)
    assert found.value.stacks.keys() == {"A", "B"}


def test_what_a_caller_raises_is_its_result(two: Two) -> None:
    one, _ = two()

    def fail() -> None:
        raise KeyError("no")

    one.start(fail)
    assert isinstance(alone(one).result, KeyError)
    with pytest.raises(KeyError, match="no"):
        one.do(fail)


def test_the_line_is_that_of_the_caller_of_a_driver() -> None:
    as_a_driver = (lambda ask: ask()).__code__
    execute = FunctionType(as_a_driver, {"__name__": "sqlalchemy.engine.default"})
    where = execute(lambda: line_of(sys._getframe(1)))
    assert str(where).endswith("where = execute(lambda: line_of(sys._getframe(1)))")


def test_a_caller_that_spins_lets_the_other_one_go_on(two: Two, tmp_path: Path) -> None:
    first, second = two()
    done = threading.Event()
    with sqlite3.connect(tmp_path / "a.db") as made:
        made.execute("CREATE TABLE t (x)")

    def one() -> str:
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as db:
            db.execute("INSERT INTO t VALUES (1)")
        done.set()
        return "one"

    def other() -> str:
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as db:
            while not done.is_set():
                db.execute("SELECT x FROM t").fetchall()
        return "other"

    first.start(one, frozenset({2}))
    second.start(other)
    hops = switch(first, second)
    assert [hop.event.result for hop in hops if isinstance(hop.event, Ended)] == ["one", "other"]
    made.close()


def test_a_deadlock_can_be_told_by_another_process() -> None:
    told = pickle.loads(pickle.dumps(Deadlock({"A": "here"}, "A does not return")))  # noqa: S301 - our own bytes
    assert (told.stacks, str(told)) == ({"A": "here"}, "A does not return")
