"""A library's own ``with connection`` may send a ROLLBACK too late: that error is not held against a store."""

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.model.judging.hidden_errors import names_a_fault
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep

apsw: Any = pytest.importorskip("apsw")


class ByWith:
    """Each change is a block of apsw's own ``with connection``."""

    def __init__(self, path: Path) -> None:
        self.db = apsw.Connection(str(path))
        self.db.set_busy_timeout(5000)
        self.db.execute("CREATE TABLE IF NOT EXISTS things (name PRIMARY KEY)")

    def add(self, name: str) -> None:
        with self.db:
            self.db.execute("INSERT OR IGNORE INTO things VALUES (?)", (name,))

    def close(self) -> None:
        self.db.close()


class RollsBackItself(ByWith):
    """Rolls back whatever has happened, as `ByWith` does, but in its own code."""

    def add(self, name: str) -> None:
        self.db.execute("BEGIN")
        try:
            self.db.execute("INSERT OR IGNORE INTO things VALUES (?)", (name,))
            self.db.execute("COMMIT")
        except apsw.Error:
            self.db.execute("ROLLBACK")
            raise


class LeavesByWith(SimpleTarget):
    title = "things on apsw"
    file = "things.sqlite"
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("add", {"name": "a"}),)
    beat = Action("add", {"name": "beat"})
    store: type[ByWith] = ByWith

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> ByWith:
        return self.store(path)

    def view(self, store: ByWith) -> dict[str, int]:
        return self.rows(store.db)

    def rows(self, connection: Any) -> dict[str, int]:
        return {name: 1 for (name,) in connection.execute("SELECT name FROM things")}


class LeavesByItself(LeavesByWith):
    store = RollsBackItself


@pytest.mark.parametrize(("target", "codes"), [(LeavesByWith, set()), (LeavesByItself, {"error-is-not-hidden"})])
def test_the_store_is_held_to_its_own_rollback_only(
    target: type[LeavesByWith], codes: set[str], tmp_path: Path
) -> None:
    recorder = Recorder()
    with faults.install():
        Sweep(target(), recorder, tmp_path, plan=faults.FaultPlan.parse("read:db@1..=IOERR_READ")).run()
    assert {found.finding.code for found in recorder.findings} == codes
    assert recorder.count("surfaced") or codes


def test_a_lock_is_known_by_the_result_code_of_any_library(tmp_path: Path) -> None:
    one, other = (apsw.Connection(str(tmp_path / "a.db")) for _ in range(2))
    one.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.BusyError) as caught:
        other.execute("BEGIN IMMEDIATE")
    assert faults.is_busy(caught.value)
    one.close()
    other.close()


def rolls_back_in_its_own_code(db: sqlite3.Connection) -> None:
    try:
        db.execute("CREATE TABLE t (x)")
        db.commit()
    except sqlite3.Error:
        db.rollback()


def leaves_it_to_with(db: sqlite3.Connection) -> None:
    with db:
        db.execute("CREATE TABLE t (x)")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has autocommit from Python 3.12 on")
@pytest.mark.parametrize(("write", "names"), [(leaves_it_to_with, True), (rolls_back_in_its_own_code, False)])
def test_so_with_the_rollback_of_python_with_autocommit_false(
    write: Callable[[sqlite3.Connection], None], *, names: bool, tmp_path: Path
) -> None:
    options: Any = {"autocommit": False}
    with faults.install():
        db = sqlite3.connect(tmp_path / "a.db", **options)
        with faults.arm("write:db@1=FULL"), pytest.raises(sqlite3.OperationalError, match="cannot rollback") as raised:
            write(db)
        db.close()
    assert names_a_fault(raised.value) is names
