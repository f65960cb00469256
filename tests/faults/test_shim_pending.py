"""SQLite may be called while a Python exception is on its way, and calls us then: the exception stays what it was."""

import subprocess
import sys
from pathlib import Path

import pytest

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
