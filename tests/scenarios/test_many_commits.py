"""A call that is declared to commit more than once may stop at any of its commits, on any connection."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import tiny_stores

from tornpage import Action, Configuration, SimpleTarget, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run.campaign import run

# Some stores here leave connections open: from Python 3.13 on, that is a warning when they go.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


class Imports:
    """Imports row by row, each in a transaction of its own."""

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self.db = sqlite3.connect(path)
        self.db.execute(f"PRAGMA journal_mode = {configuration.journal_mode}")
        self.db.execute("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v TEXT)")

    def load(self, keys: list[str], value: str) -> None:
        for key in keys:
            self.load_one(key, value)

    def load_one(self, key: str, value: str) -> None:
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, value))

    def close(self) -> None:
        self.db.close()


class Skips(Imports):
    """Leaves out what can't be written, and says that all is done."""

    def load_one(self, key: str, value: str) -> None:
        with contextlib.suppress(sqlite3.OperationalError):
            super().load_one(key, value)


class Declared(SimpleTarget):
    configurations = (Configuration("delete", "FULL"), Configuration("wal", "FULL"))
    many_commits = ("load",)
    kind: type[Imports] = Imports
    calls = (
        Action("load", {"keys": ["a", "b", "c"], "value": "1"}),
        Action("load", {"keys": ["b", "d"], "value": "2"}),
    )
    beat = Action("load", {"keys": ["beat"], "value": "1"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Imports:
        return self.kind(path, configuration)

    def view(self, store: Imports) -> dict[str, str]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, str]:
        return dict(connection.execute("SELECT k, v FROM t").fetchall())


class Undeclared(Declared):
    many_commits = ()


class Skipping(Declared):
    kind = Skips


def _codes(target: SimpleTarget, *searches: str) -> set[str]:
    recorder = run(target, Plan(searches, Profile("test", 25, 10, 0, 0, crash_states=20), report=None))
    assert not recorder.vacuous
    return {found.finding.code for found in recorder.findings}


@pytest.mark.parametrize("search", ["sweep", "crash"])
def test_a_declared_call_may_stop_at_any_commit_on_a_connection_of_its_own(search: str) -> None:
    assert not _codes(Declared(), search)


def test_one_of_its_commits_that_failed_may_come_to_life_by_a_crash(tmp_path: Path) -> None:
    target = Declared()
    first, second = map(Call, target.calls)
    steps = (Call(target.beat), Arm("sync:wal@1=IOERR_FSYNC"), first, Clear(), Restart(crash=True), second)
    with faults.install():
        violation, counts = play(Scenario("t", Configuration("wal", "FULL"), steps), target, tmp_path)
    assert violation is None
    assert counts["surfaced"] == 1


def test_it_may_not_stop_there_undeclared() -> None:
    assert _codes(Undeclared(), "sweep") == {"all-or-nothing"}


def test_a_declared_call_that_was_acknowledged_is_done_to_its_end() -> None:
    assert "acknowledged-is-durable" in _codes(Skipping(), "sweep")


def test_a_store_that_never_lets_go_of_its_file_is_named_by_limits_too() -> None:
    plan = Plan(("limits",), Profile("test", 5, 5, 0, 0), report=None, rehearses=False)
    with pytest.raises(TargetError, match=r"fails without any fault.*still open"):
        run(tiny_stores.LeaksAlways(), plan)
