"""A wait for another thread of the process takes real time; one for anybody else, or for a thread that sleeps, none."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults.contention import other_threads

TIMEOUT_S = 20


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT_S)) as connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with opened(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    return tmp_path / "a.db"


def test_a_thread_that_writes_is_waited_for(path: Path) -> None:
    has_begun = threading.Event()

    def write() -> None:
        with opened(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            has_begun.set()
            # More work than the timeout takes in virtual time.
            for number in range(20_000):
                connection.execute("INSERT INTO t VALUES (?)", (number,))
            connection.execute("COMMIT")

    with faults.install():
        writer = threading.Thread(target=write)
        writer.start()
        has_begun.wait()
        with opened(path) as connection:
            connection.execute("INSERT INTO t VALUES (2)")
        writer.join()


def test_a_thread_that_sleeps_is_not(path: Path) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with opened(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            has_begun.set()
            may_end.wait()

    with faults.install() as shim:
        holder = threading.Thread(target=hold)
        holder.start()
        has_begun.wait()
        before_us = shim.slept_us
        with opened(path) as connection, pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("INSERT INTO t VALUES (2)")
        may_end.set()
        holder.join()
        assert shim.slept_us - before_us >= (TIMEOUT_S - 1) * 1_000_000


def test_one_that_never_sleeps_is_waited_for_with_patience(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_threads, "_PATIENCE_S", 0.05)
    may_end = threading.Event()

    def spin() -> None:
        while not may_end.is_set():
            pass

    with faults.install(), opened(path) as holder, opened(path) as connection:
        spinner = threading.Thread(target=spin)
        spinner.start()
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("INSERT INTO t VALUES (2)")
        may_end.set()
        spinner.join()


def test_each_wait_has_patience_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, now_s = threading.Event(), [100.0]
    monkeypatch.setattr(other_threads, "real_monotonic", lambda: now_s[0])
    monkeypatch.setattr(other_threads, "_others_sleep", lambda: False)
    monkeypatch.setattr(other_threads, "_waits", {})
    other = threading.Thread(target=may_end.wait)
    other.start()
    asked = []
    # A store that is called all the time: SQLite's first sleeps of many waits, and one that goes on.
    for sleep_us in (1_000, 2_000, 1_000, 1_000, 2_000, 5_000):
        asked.append(other_threads.may_give_up_the_lock(sleep_us))
        now_s[0] += 0.4
    assert asked == [True] * 6
    for sleep_us in (10_000, 15_000):
        asked.append(other_threads.may_give_up_the_lock(sleep_us))
        now_s[0] += 0.4
    assert asked[6:] == [False, False]
    may_end.set()
    other.join()
