"""The build with hidden symbols is what it says: tests that run on it would else prove nothing."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROBE = """
import _sqlite3, ctypes, sqlite3, sys
connection = sqlite3.connect(":memory:")
assert connection.execute("SELECT count(*) FROM (VALUES (1), (2))").fetchone() == (2,)
print(_sqlite3.__file__)
print(sqlite3.sqlite_version)
print([name for name in ("sqlite3_libversion", "sqlite3_vfs_find") if hasattr(ctypes.CDLL(_sqlite3.__file__), name)])
"""


def test_a_hidden_sqlite_is_the_ordinary_one_without_its_symbols(hidden_sqlite: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE],
        env={**os.environ, "PYTHONPATH": str(hidden_sqlite)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    file, version, visible = done.stdout.splitlines()
    assert Path(file).parent == hidden_sqlite
    assert version == sqlite3.sqlite_version
    assert visible == "[]"
