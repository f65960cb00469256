"""A VFS that a program has written in Python (apsw) passes its operations on to the system's: all of them are seen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults

apsw: Any = pytest.importorskip("apsw")


@pytest.fixture
def vfs() -> Iterator[str]:
    """One that changes nothing. It gives the system's VFS a copy of each name but the database's."""

    class Passing(apsw.VFS):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("passing", "")

        def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 - SQLite's name
            return apsw.VFSFile("", name, flags)

    made = Passing()
    yield "passing"
    made.unregister()


def recorded(home: Path, vfs: str | None, mode: str) -> list[str]:
    home.mkdir()
    with faults.install(), faults.record(home) as tape:
        db = apsw.Connection(str(home / "a.db"), vfs=vfs)
        db.execute(f"PRAGMA journal_mode = {mode}").fetchall()
        db.execute("CREATE TABLE t (x)")
        db.execute("INSERT INTO t VALUES (1)")
        db.close()
    return [str(one) for one in tape.operations]


def test_the_journal_is_recorded_as_without_it(vfs: str, tmp_path: Path) -> None:
    plain = recorded(tmp_path / "plain", None, "delete")
    assert sum("a.db-journal" in one for one in plain) > 10
    assert recorded(tmp_path / "passing", vfs, "delete") == plain


def test_a_fault_of_its_journal_fires(vfs: str, tmp_path: Path) -> None:
    with faults.install():
        db = apsw.Connection(str(tmp_path / "a.db"), vfs=vfs)
        with faults.arm("write:journal@1=FULL") as armed, pytest.raises(apsw.FullError):
            db.execute("CREATE TABLE t (x)")
        assert armed.fired == 1
        db.close()


def test_that_of_a_connection_opened_before_stays_out_of_reach(tmp_path: Path) -> None:
    before = apsw.Connection(str(tmp_path / "a.db"))
    with faults.install():
        db = apsw.Connection(str(tmp_path / "a.db"))
        with faults.arm("write:journal@1=FULL") as armed:
            before.execute("CREATE TABLE t (x)")
        assert armed.fired == 0
        db.close()
    before.close()
