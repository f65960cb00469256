"""A forked child process: the faults and the virtual waits of its parent do not apply to it."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.scenarios.execution.sleeping import no_real_sleep

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
    return path


def in_a_child(do: Callable[[], bool]) -> bool:
    """Do it in a forked child; whether it returned True there."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = 0 if do() else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def insert(path: Path, timeout: float = 5.0) -> bool:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=timeout)) as db:
        db.execute("INSERT INTO t VALUES (1)")
    return True


def test_a_fault_is_for_the_process_that_armed_it(path: Path) -> None:
    with faults.install():
        with faults.arm("write:db@1..=FULL") as armed:
            assert in_a_child(lambda: insert(path))
            assert armed.fired == 0
            with pytest.raises(sqlite3.OperationalError, match="full"):
                insert(path)

        def arms_one_itself() -> bool:
            with faults.arm("write:db@1=FULL") as armed:
                try:
                    insert(path)
                except sqlite3.OperationalError:
                    return armed.fired == 1
            return False

        assert in_a_child(arms_one_itself)


def test_a_child_waits_in_real_time(path: Path) -> None:
    with faults.install() as shim, closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")

        def waits(*, virtually: bool) -> bool:
            before_us = shim.slept_us
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                insert(path, timeout=0.005)
            return (shim.slept_us > before_us) is virtually

        assert in_a_child(lambda: waits(virtually=False))
        assert waits(virtually=True)


def test_a_child_sleeps_in_real_time() -> None:
    def sleeps(seconds: float) -> bool:
        # A clock that no scope replaces.
        before_s = time.clock_gettime(time.CLOCK_MONOTONIC)
        time.sleep(seconds)
        return time.clock_gettime(time.CLOCK_MONOTONIC) - before_s >= seconds

    with no_real_sleep([], TimeoutError()):
        assert in_a_child(lambda: sleeps(0.005))
        assert not sleeps(1000.0)
