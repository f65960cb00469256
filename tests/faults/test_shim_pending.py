"""SQLite may be called while a Python exception is on its way, and calls us then: the exception stays what it was."""

import contextlib
import gc
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tornpage import faults

CLOSES = """
import sqlite3, sys
from tornpage import faults

with faults.install() as shim, faults.exact_allocations(), faults.count_operations() as counter:
    connection = sqlite3.connect("a.db")
    connection.execute(f"PRAGMA journal_mode = {sys.argv[1]}")
    connection.execute("CREATE TABLE t (x)")
    connection.autocommit = False
    connection.execute("INSERT INTO t VALUES (1)")
    with faults.FailedAllocation(1, sticky=True).in_force():
        try:
            connection.close()
        except BaseException as error:
            print(type(error).__name__)
    # The file was closed: nobody holds a lock any more.
    again = sqlite3.connect("a.db", isolation_level=None, timeout=0)
    again.execute("INSERT INTO t VALUES (2)")
    print(again.execute("SELECT x FROM t").fetchall())
    again.close()
    print(shim.kept, len(counter.counts) > 5)
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has autocommit from Python 3.12 on")
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_close_whose_rollback_has_no_memory_says_so(tmp_path: Path, mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSES, mode], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["MemoryError", "[(2,)]", "[] True"], done.stderr


@pytest.fixture(params=["pysqlite3", "sqlean"])
def other(request: pytest.FixtureRequest) -> ModuleType:
    """A binding that closes a connection without a name while the error is on its way."""
    module: ModuleType = pytest.importorskip(request.param)
    return module


def test_an_error_of_a_connection_without_a_name_stays_what_it_was(other: ModuleType, tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    with faults.install(other), faults.arm("write@1=FULL", module=other) as armed:
        with pytest.raises(other.OperationalError, match="database or disk is full") as full:
            other.connect(path).execute("CREATE TABLE t (x)")
        with pytest.raises(other.OperationalError, match="no such table: missing") as misspelt:
            other.connect(path).execute("SELECT * FROM missing")
    assert armed.saw(full.value)
    assert misspelt.value.__cause__ is None
    assert misspelt.value.__context__ is None


def test_every_fault_at_an_unnamed_connection_ends_in_an_error_of_its_own_library(
    other: ModuleType, tmp_path: Path
) -> None:
    path, fired = str(tmp_path / "a.db"), 0
    with faults.install(other):
        for kind in ("open", "read", "write", "sync", "truncate", "delete", "lock", "unlock"):
            for timing, effect in faults.effects_of(kind, "any"):
                for ordinal in (1, 2, 4):
                    plan = f"{kind}@{ordinal}{'' if timing == 'before' else '/' + timing}={effect}"
                    with faults.arm(plan, module=other) as armed:
                        Path(path).unlink(missing_ok=True)
                        # Nothing else may come out.
                        with contextlib.suppress(other.Error):
                            other.connect(path).execute("CREATE TABLE IF NOT EXISTS t AS SELECT zeroblob(9000)")
                        with pytest.raises(other.Error):
                            other.connect(path).execute("DROP TABLE missing")
                    fired += armed.fired
        assert not faults.shim_for(other).paths
    assert fired > 40


def test_an_exception_that_was_set_leaves_nothing_behind(other: ModuleType, tmp_path: Path) -> None:
    def fails() -> str:
        try:
            other.connect(str(tmp_path / "a.db")).execute("DROP TABLE missing")
        except other.OperationalError as error:  # pytest.raises would make garbage of its own.
            return str(error)
        return "nothing"

    with faults.install(other):
        fails()
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            assert {fails() for _ in range(50)} == {"no such table: missing"}
            assert len(gc.get_objects()) < before + 50
        finally:
            gc.enable()
