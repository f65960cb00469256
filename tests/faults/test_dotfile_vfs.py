"""SQLite on locks that are directories (``vfs=unix-dotfile``): what ``docs/sqlite-under-faults.md`` says of them."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

_AFTER, _BEFORE = b"b" * 900, b"a" * 900


def killed_in_a_transaction(home: Path) -> Path:
    """A database as a process leaves it that dies when parts of its transaction have reached the file."""
    written, left = home / "written", home / "left"
    written.mkdir()
    with contextlib.closing(sqlite3.connect(written / "a.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(_BEFORE,)] * 50)
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET x = ?", (_AFTER,))
        shutil.copytree(written, left)
    return left / "a.db"


@pytest.mark.skipif(os.name != "posix", reason="a VFS of unix")
@pytest.mark.skipif(sqlite3.sqlite_version_info[:2] != (3, 40), reason="measured with SQLite 3.40")
@pytest.mark.parametrize(("vfs", "recovers"), [("unix", True), ("unix-dotfile", False)])
def test_locks_that_are_directories_keep_a_hot_journal_from_being_rolled_back(
    vfs: str, recovers: bool, tmp_path: Path
) -> None:
    database = killed_in_a_transaction(tmp_path)
    with contextlib.closing(sqlite3.connect(f"file:{database}?vfs={vfs}", uri=True)) as connection:
        seen = {value for (value,) in connection.execute("SELECT x FROM t")}
    assert seen == ({_BEFORE} if recovers else {_BEFORE, _AFTER})
    assert database.with_name("a.db-journal").exists() == (not recovers)
