"""A store that can't be opened after a crash, without any fault: a finding, whatever search meets it first."""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, SimpleTarget
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run, verdict
from tornpage.scenarios.targets.registry import find_or_import

_SMALL = Profile("test", 1, 3, scenarios=3, steps=3, schedules=4)


class Locked:
    """Keeps other processes out by a lock of the file, which ends with the process."""

    def __init__(self, path: Path) -> None:
        self.own(path.with_suffix(".lock"))
        try:
            self.db = sqlite3.connect(path, isolation_level=None)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v)")
        except BaseException:
            self.close()
            raise

    def own(self, name: Path) -> None:
        self.lock = name.open("a")
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def put(self, key: str, value: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, value))

    def close(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
        self.disown()

    def disown(self) -> None:
        self.lock.close()


class LockedByAFile(Locked):
    """Keeps other processes out by a file that exists, and that a process which dies leaves behind."""

    def own(self, name: Path) -> None:
        self.name = name
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))

    def disown(self) -> None:
        self.name.unlink(missing_ok=True)


class LockTarget(SimpleTarget):
    """A sound one."""

    file = "t.db"
    calls = (Action("put", {"key": "a", "value": 1}), Action("put", {"key": "a", "value": 2}))
    beat = Action("put", {"key": "heartbeat", "value": 0})
    made: type[Locked] = Locked

    def make(self, path: Path, configuration: Any, environment: Any) -> Locked:
        return self.made(path)

    def view(self, store: Locked) -> dict[str, int]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, int]:
        return dict(connection.execute("SELECT k, v FROM t"))


class LockFileTarget(LockTarget):
    """Its broken twin."""

    made = LockedByAFile


@pytest.mark.parametrize("search", ["sweep", "interleave"])
def test_a_lock_file_that_a_dead_process_leaves_is_a_finding(search: str, tmp_path: Path) -> None:
    target = find_or_import(f"{__name__}:LockFileTarget")
    recorder = run(target, Plan((search,), _SMALL, report=tmp_path, jobs=1))
    assert verdict(recorder) is Exit.FINDING
    (found,) = recorder.findings
    assert found.finding.code == "still-usable-after-the-fault"
    assert found.finding.message.startswith("after a crash, opening fails: FileExistsError")
    assert [str(step) for step in found.finding.scenario.steps] == ["restart"]
    (vacuous,) = recorder.vacuous
    assert vacuous.reason.startswith("it could not continue: ")


def test_a_lock_that_ends_with_the_process_is_sound() -> None:
    target = find_or_import(f"{__name__}:LockTarget")
    recorder = run(target, Plan(("sweep",), _SMALL, report=None, jobs=1))
    assert recorder.findings == []
    assert recorder.vacuous == []
