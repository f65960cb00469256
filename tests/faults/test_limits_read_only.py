"""A file system that can only be read: what SQLite says then, and that it goes on when it can be written again.

As root, permissions stop nobody. So there are two ways: a file system mounted read-only, where mounting is allowed, and
a child process of an ordinary user.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Mount = Callable[..., None]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system in memory on `tmp_path`/mounted, or mounts it anew with other options."""
    place = tmp_path / "mounted"
    place.mkdir()
    program = shutil.which("mount")
    if program is None or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")

    def mounted(*options: str, again: bool = False) -> None:
        chosen = ",".join((*(["remount"] if again else []), *options))
        done = subprocess.run(
            [program, "-t", "tmpfs", "-o", chosen, "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")

    try:
        mounted("size=1m")
        yield mounted
    finally:
        if os.path.ismount(place):
            subprocess.run(["umount", str(place)], check=False)


def fill(path: Path, mode: str, rows: int = 1) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}").fetchall()
        connection.execute("CREATE TABLE IF NOT EXISTS t(a)")
        for row in range(rows):
            connection.execute("INSERT INTO t VALUES(?)", (row,))


def read(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_on_a_file_system_mounted_read_only_a_write_is_refused_and_nothing_is_lost(
    mount: Mount, tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "mounted" / "a.db"
    fill(path, mode, rows=3)
    mount("ro", again=True)
    with pytest.raises(sqlite3.OperationalError) as refused:
        fill(path, mode)
    # Without a place for its shared memory a database in WAL mode can't even be opened.
    assert refused.value.sqlite_errorname in {"SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY"}
    mount("rw", again=True)
    assert read(path) == 3
    fill(path, mode)
    assert read(path) == 4


def test_a_file_system_that_is_really_full_says_so_and_keeps_what_was_there(mount: Mount, tmp_path: Path) -> None:
    path = tmp_path / "mounted" / "a.db"
    fill(path, "delete", rows=3)
    (tmp_path / "mounted" / "ballast").write_bytes(bytes(900_000))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
            connection.execute("INSERT INTO t VALUES(randomblob(300000))")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (3,)
        (tmp_path / "mounted" / "ballast").unlink()
        connection.execute("INSERT INTO t VALUES(randomblob(300000))")
    assert read(path) == 4


AS_ORDINARY_USER = """
    import os, sqlite3, sys
    path = sys.argv[1]
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("INSERT INTO t VALUES(9)")
    except sqlite3.OperationalError as error:
        print(error.sqlite_errorname)
    connection.close()
"""


@pytest.fixture
def ordinary(tmp_path: Path) -> Iterator[Path]:
    """A directory that an ordinary user can get at, and nobody but root change."""
    above = [one for one in tmp_path.parents if not one.stat().st_mode & 0o001]
    if os.geteuid() == 0 and above:
        for one in above:
            if one.stat().st_uid != 0:
                pytest.skip(f"{one} is nobody's to open")
    modes = {one: one.stat().st_mode for one in (*above, tmp_path)}
    for one, mode in modes.items():
        one.chmod(mode | 0o011)
    yield tmp_path
    for one, mode in modes.items():
        one.chmod(mode)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_in_a_directory_that_an_ordinary_user_may_only_read_a_write_is_refused(
    ordinary: Path, child: Callable[..., Any], mode: str
) -> None:
    place = ordinary / "state"
    place.mkdir()
    path = place / "a.db"
    fill(path, mode, rows=3)
    path.chmod(0o444)
    place.chmod(0o555)
    try:
        done = child(AS_ORDINARY_USER, path)
        assert done.stderr == ""
        assert done.stdout.split() in (["SQLITE_READONLY"], ["SQLITE_CANTOPEN"], ["SQLITE_READONLY_DIRECTORY"])
    finally:
        place.chmod(0o755)
        path.chmod(0o644)
    assert read(path) == 3
    fill(path, mode)
    assert read(path) == 4
