"""What a call does to files does not depend on the last checkpoint: ``checkpoints-change-nothing``."""

import contextlib
import hashlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import others_stores
import pytest

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, Scenario, WithTheLogWrittenBack
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.run.campaign import run

CODE = "checkpoints-change-nothing"
BACKUP, RESTORE, RESET = Action("backup"), Action("restore"), Action("reset")


class Logged(others_stores.Shelf):
    """A shelf with a log, a copy and a way back."""

    def set_up(self) -> None:
        if self.db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            self.db.execute("PRAGMA journal_mode = WAL")
        super().set_up()

    @property
    def copy(self) -> str:
        return f"{self.path}.copy"

    def backup(self) -> None:
        with contextlib.closing(sqlite3.connect(self.copy)) as copy:
            self.db.backup(copy)

    def restore(self) -> None:
        if Path(self.copy).exists():
            with contextlib.closing(sqlite3.connect(self.copy)) as copy:
                copy.backup(self.db)

    def reset(self) -> None:
        self.db.execute("DELETE FROM item")


class CopiesTheFile(Logged):
    def backup(self) -> None:
        shutil.copyfile(self.path, self.copy)


class CopiesBothFiles(Logged):
    def backup(self) -> None:
        for end in ("", "-wal"):
            shutil.copyfile(f"{self.path}{end}", f"{self.copy}{end}")


class NotesTheDigest(Logged):
    def backup(self) -> None:
        self.put("digest", hashlib.sha256(Path(self.path).read_bytes()).hexdigest())
        super().backup()


class WritesAnIndex(Logged):
    """Its other database is no copy."""

    def backup(self) -> None:
        with contextlib.closing(sqlite3.connect(f"{self.path}.index", isolation_level=None)) as index:
            index.execute("CREATE TABLE IF NOT EXISTS word(word)")
            index.execute("INSERT INTO word VALUES('a')")


class PutsTheCopyInPlace(Logged):
    def restore(self) -> None:
        if Path(self.copy).exists():
            shutil.copyfile(self.copy, f"{self.path}.new")
            Path(f"{self.path}.new").replace(self.path)
            old, self.db = self.db, sqlite3.connect(self.path, isolation_level=None)
            old.close()


class LoggedTarget(others_stores.ShelfTarget):
    configurations = (Configuration("wal", "FULL"),)
    calls = (*others_stores.ShelfTarget.calls, BACKUP, RESTORE, RESET)


def judged(kind: type, *steps: Any, home: Path) -> tuple[str, str]:
    target = LoggedTarget()
    target.kind = kind
    violation, _ = play(Scenario(target.name, target.configurations[0], steps), target, home)
    return ("", "") if violation is None else (violation.code, violation.message)


@pytest.mark.parametrize(
    ("kind", "action", "message"),
    [
        (CopiesTheFile, BACKUP, "leaves in store.sqlite.copy a copy of the database that has not what was committed"),
        (PutsTheCopyInPlace, RESTORE, "leaves what was there before: beat: the file has 1, the file then has nothing"),
    ],
)
def test_a_call_that_forgets_the_log_is_found(
    kind: type, action: Action, message: str, home: Path, shim: faults.Shim
) -> None:
    code, told = judged(kind, Call(BACKUP), WithTheLogWrittenBack(action), home=home)
    assert code == CODE
    assert message in told


@pytest.mark.parametrize("kind", [Logged, CopiesBothFiles, NotesTheDigest, WritesAnIndex])
def test_one_that_knows_of_it_is_silent(kind: type, home: Path, shim: faults.Shim) -> None:
    both = [step for one in (BACKUP, RESTORE, RESET) for step in (WithTheLogWrittenBack(one), Call(one))]
    assert judged(kind, *both, home=home) == ("", "")


class CopyingTarget(LoggedTarget):
    kind = CopiesTheFile
    calls = (*others_stores.ShelfTarget.calls, BACKUP)


def test_a_sweep_finds_it_without_a_fault() -> None:
    recorder = run(CopyingTarget(), Plan(("sweep",), Profile("test", 1, 1, 0, 0), report=None))
    (found,) = (one for one in recorder.findings if one.finding.code == CODE)
    assert found.finding.scenario.steps == (WithTheLogWrittenBack(BACKUP),)
