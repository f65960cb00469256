"""Copies beside an open database: they cost it no lock, and a leftover session is noticed."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tornpage.scenarios.execution.snapshots import Holder, beside, held_open, place, require_let_go, siblings
from tornpage.scenarios.model.judging.checks import Violation

TRY_TO_WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0)
try:
    connection.execute("BEGIN IMMEDIATE")
    print("free")
except sqlite3.OperationalError as error:
    print(error)
"""


def seen_from_outside(path: Path) -> str:
    """What another process is told that wants to write: only it meets the locks of this one."""
    command = [sys.executable, "-c", TRY_TO_WRITE, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_file_named_like_the_database_is_not_its_own_for_that() -> None:
    own = ["db/s.sqlite", "db/s.sqlite-wal", "db/s.sqlite-journal", "db/s.sqlite-mj01AB"]
    others = ["db/s.sqlite.json", "db/s.sqlite-backup", "s.sqlite", "db"]
    assert [*beside(dict.fromkeys([*own, *others], b""), "db/s.sqlite")] == others


def test_a_copy_keeps_its_descriptors_until_it_is_told_to_let_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    holder = Holder()
    assert holder.copy(tmp_path) == holder.copy(tmp_path) == {"a": b"1"}
    # Once for any number of copies.
    assert held_open(tmp_path) == ["a"]
    holder.release()
    assert held_open(tmp_path) == []


def test_a_lock_survives_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    holder = Holder()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t(a)")
        connection.execute("BEGIN IMMEDIATE")
        holder.copy(tmp_path)
        assert seen_from_outside(path) == "database is locked"
        connection.execute("COMMIT")
        assert seen_from_outside(path) == "free"
    holder.release()


def test_a_copy_has_the_wal_and_what_is_below_and_never_the_shared_memory(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "value").write_bytes(b"1")
    holder = Holder()
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE t(a)")
        assert (tmp_path / "a.db-shm").exists()
        assert sorted(holder.copy(tmp_path)) == ["a.db", "a.db-wal", str(Path("below", "value"))]
    holder.release()


def test_an_empty_place_is_a_directory_all_the_same(tmp_path: Path) -> None:
    place({}, tmp_path / "new" / "home")
    assert (tmp_path / "new" / "home").is_dir()


def test_what_a_session_holds_after_its_end_is_named(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("CREATE TABLE t(a)")
        with pytest.raises(Violation, match=r"still open \(a\.db") as found:
            require_let_go(tmp_path)
    assert found.value.code == "still-usable-after-the-fault"
    require_let_go(tmp_path)


class Cycle:
    """Refers to itself, as an error and its own frames do, and holds a file until it is collected."""

    def __init__(self, path: Path) -> None:
        self.itself = self
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)

    def __del__(self) -> None:
        os.close(self.descriptor)


def test_a_cycle_that_nobody_holds_is_collected_before_anybody_is_accused(tmp_path: Path) -> None:
    Cycle(tmp_path / "a")
    require_let_go(tmp_path)
    assert held_open(tmp_path) == []


def test_siblings_never_end_and_begin_with_the_directory_itself(tmp_path: Path) -> None:
    found = siblings(tmp_path / "home")
    assert [next(found).name for _ in range(3)] == ["home", "home-2", "home-3"]


def test_what_is_placed_leaves_no_empty_directory_of_an_earlier_scenario(tmp_path: Path) -> None:
    place({"kept/a": b"1", "old/deep/b": b"2"}, tmp_path)
    place({"kept/a": b"1"}, tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept"]
    place({}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_part_of_a_copy(tmp_path: Path) -> None:
    (tmp_path / "from" / "empty").mkdir(parents=True)
    holder = Holder()
    files = holder.copy(tmp_path / "from")
    holder.release()
    assert files == {f"empty{os.sep}": b""}
    place({f"empty{os.sep}old": b"1", "gone": b"2"}, tmp_path / "to")
    place(files, tmp_path / "to")
    assert [one.name for one in (tmp_path / "to").iterdir()] == ["empty"]
    assert list((tmp_path / "to" / "empty").iterdir()) == []


def test_a_copy_has_the_links_and_what_they_lead_to_where_the_copy_is(tmp_path: Path) -> None:
    home, outside = tmp_path / "from", tmp_path / "outside"
    (home / "v1").mkdir(parents=True)
    (home / "v1" / "a").write_bytes(b"1")
    outside.write_bytes(b"elsewhere")
    for name, to in {"by name": "v1/a", "by path": home / "v1", "to nothing": "gone", "out": outside}.items():
        (home / name).symlink_to(to)
    (home / "loop").symlink_to("loop")
    holder = Holder()
    files = holder.copy(home)
    holder.release()
    assert files.keys() == {"v1/a", "by name\0", "by path\0", "to nothing\0", "loop\0", "out"}
    shutil.rmtree(home)
    for used_at in (None, home):
        place(files, tmp_path / "to", used_at)
        assert (tmp_path / "to" / "by path").readlink() == (used_at or tmp_path / "to") / "v1"
        assert (tmp_path / "to" / "by name").read_bytes() == b"1"
        assert not (tmp_path / "to" / "out").is_symlink()


def test_what_is_placed_over_a_link_is_never_written_through_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "d").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"kept")
    (home / "out").symlink_to(tmp_path / "outside")
    (home / "a").symlink_to("d")
    place({"out": b"new", "a/b": b"1", "d\0": b"a"}, home)
    assert (tmp_path / "outside").read_bytes() == b"kept"
    assert [(home / "out").read_bytes(), (home / "a" / "b").read_bytes()] == [b"new", b"1"]
    assert (home / "d").readlink() == Path("a")
    place({"d\0": b"out", "a\0": b"d", "out": b"2"}, home)
    assert (home / "a").read_bytes() == b"2"
    assert (home / "a").readlink() == Path("d")


def test_a_copy_is_of_the_file_that_has_the_name_now(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    holder = Holder()
    assert holder.copy(tmp_path) == {"a": b"old"}
    path.unlink()
    path.write_bytes(b"another")
    assert holder.copy(tmp_path) == {"a": b"another"}
    path.write_bytes(b"")
    assert holder.copy(tmp_path) == {"a": b""}
    holder.release()
    assert held_open(tmp_path) == []


def test_a_file_may_have_taken_the_place_of_an_empty_directory(tmp_path: Path) -> None:
    place({f"x{os.sep}": b"", "x": b"1"}, tmp_path)
    assert (tmp_path / "x").read_bytes() == b"1"
