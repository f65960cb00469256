"""An answer that tells of the store's files, such as the room they take, is not compared; one that tells of rows is."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import others_stores

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.interleave.serial import Serial, State
from tornpage.scenarios.execution.session_only import SessionOnly
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import NotCompared
from tornpage.scenarios.model.scenario import Arm, Call, Restart, Scenario
from tornpage.scenarios.model.target import Action, Configuration

WAL = Configuration("wal", "FULL")
PUT, DROP, VOLUME = Action("put", {"key": "a", "value": 1}), Action("drop", {"key": "a"}), Action("volume")


class Sized(others_stores.Shelf):
    """Tells how many rows it has, and how many bytes its files take."""

    def set_up(self) -> None:
        if self.db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            self.db.execute("PRAGMA journal_mode = WAL")
        super().set_up()

    def drop(self, key: str) -> None:
        self.db.execute("DELETE FROM item WHERE key = ?", (key,))

    def volume(self) -> Any:
        files = [Path(f"{self.path}{end}") for end in ("", "-wal")]
        return {"rows": self.rows(), "bytes": sum(one.stat().st_size for one in files if one.exists())}

    def rows(self) -> int:
        return len(self.all())


class KnowsItsRows(Sized):
    """Counts its rows in memory, also where a change fails."""

    count = -1

    def drop(self, key: str) -> None:
        self.count = self.rows() - 1
        super().drop(key)

    def rows(self) -> int:
        return super().rows() if self.count < 0 else self.count


class PastItsLog(Sized):
    """Reads the database without its log."""

    def keys(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?immutable=1", uri=True)) as reader:
            return [key for (key,) in reader.execute("SELECT key FROM item")]


class SizedTarget(others_stores.ShelfTarget):
    name = "test_file_sizes:SizedTarget"
    kind = Sized
    configurations = (WAL,)
    calls = (PUT, Action("put", {"key": "b", "value": 1}), DROP, VOLUME)
    unpromised = {"waits-for-a-short-lock": "PRAGMA journal_mode = WAL on a new file waits for no lock"}  # noqa: RUF012


class KnowsItsRowsTarget(SizedTarget):
    name = "test_file_sizes:KnowsItsRowsTarget"
    kind = KnowsItsRows


class PastItsLogTarget(SizedTarget):
    name = "test_file_sizes:PastItsLogTarget"
    kind = PastItsLog


def played(target: Any, *steps: Any, home: Path) -> str:
    violation, _ = play(Scenario(target.name, WAL, steps), target, home)
    return "" if violation is None else violation.message


def test_after_a_failed_write_the_room_it_has_left_is_no_wrong_answer(home: Path, shim: faults.Shim) -> None:
    steps = (Call(PUT), Arm("write@2=FULL"), Call(DROP, ends=True), Call(VOLUME))
    assert played(SizedTarget(), *steps, home=home) == ""
    assert "'rows': 0" in played(KnowsItsRowsTarget(), *steps, home=home / "other")


def test_after_a_crash_the_room_that_the_log_takes_is_no_wrong_answer(home: Path, shim: faults.Shim) -> None:
    steps = (Restart(), Restart(), Call(VOLUME), Call(PUT), Restart(crash=True), Call(VOLUME))
    assert played(SizedTarget(), *steps, home=home) == ""


def test_in_serial_orders_the_room_that_a_store_takes_is_not_compared(home: Path, shim: faults.Shim) -> None:
    home.mkdir(exist_ok=True)
    orders = Serial(SizedTarget(), WAL, home, State({}, {}, 1)).confirmed()
    assert isinstance(orders.run(PUT, VOLUME).said.value, NotCompared)
    assert orders.run(PUT, Action("rows")).said.value == 1


def test_rows_that_are_read_past_the_log_are_compared(home: Path, shim: faults.Shim) -> None:
    target, here, keys = PastItsLogTarget(), home / "real", Action("keys")
    place({}, here)
    with Trial(target, WAL, here, {}) as trial:
        trial.open()
        trial.close()
        trial.open()
        trial.ask(PUT)
        sessions, files = SessionOnly(target, WAL, home / "other", here), trial.crash_copy()
        assert not sessions.is_of_files(keys, [], ["a"], files)
        assert sessions.is_of_files(VOLUME, {"rows": 1, "bytes": 1}, {"rows": 1, "bytes": 2}, files)
        assert not sessions.is_of_files(VOLUME, {"rows": 1, "bytes": 1}, {"rows": 2, "bytes": 2}, files)
