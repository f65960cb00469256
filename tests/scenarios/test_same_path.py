"""Stores that share something by their path, such as an engine for each URL, are judged as if in two processes."""

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tornpage import Action, Configuration, SimpleTarget, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.preflight.same_path import are_joined
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Scenario
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.recorder import Recorder


class Kept:
    """Every store on a path uses the connection that the first one has opened; the last one closes it."""

    opened: ClassVar[dict[str, tuple[sqlite3.Connection, list[object]]]] = {}

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        if self.path not in self.opened:
            self.opened[self.path] = _connected(path), []
        self.db, self.users = self.opened[self.path]
        self.users.append(self)

    def put(self, key: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, value))

    def items(self) -> dict[str, str]:
        return dict(self.db.execute("SELECT k, v FROM t").fetchall())

    def close(self) -> None:
        self.users.remove(self)
        if not self.users:
            del self.opened[self.path]
            self.db.close()


class Forgets(Kept):
    """The same, and it swallows the error of its write."""

    def put(self, key: str, value: str) -> None:
        with contextlib.suppress(sqlite3.OperationalError):
            super().put(key, value)


class Own(Kept):
    """A connection for each store."""

    def __init__(self, path: Path) -> None:
        self.db = _connected(path)

    def close(self) -> None:
        self.db.close()


class OneAtATime(Own):
    """Waits until the store that this process has open on the path is closed."""

    locks: ClassVar[dict[str, threading.Lock]] = {}

    def __init__(self, path: Path) -> None:
        self.lock = self.locks.setdefault(str(path), threading.Lock())
        self.lock.acquire()
        try:
            super().__init__(path)
        except BaseException:
            self.lock.release()
            raise

    def close(self) -> None:
        super().close()
        self.lock.release()


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v TEXT)")
    except BaseException:
        db.close()
        raise
    return db


class Target(SimpleTarget):
    kind: type[Kept] = Kept
    calls = (Action("put", {"key": "a", "value": "1"}), Action("put", {"key": "a", "value": "2"}))
    beat = Action("put", {"key": "beat", "value": "1"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Kept:
        return self.kind(path)

    def view(self, store: Kept) -> dict[str, str]:
        return store.items()

    def rows(self, connection: sqlite3.Connection) -> dict[str, str]:
        return dict(connection.execute("SELECT k, v FROM t").fetchall())


class ForgetsTarget(Target):
    kind = Forgets


class OwnTarget(Target):
    kind = Own


class OneAtATimeTarget(Target):
    kind = OneAtATime


def _searched(target: SimpleTarget) -> Recorder:
    return run(target, Plan(("sweep", "crash"), Profile("test", 6, 10, 0, 0, crash_states=10), report=None))


@pytest.mark.parametrize(("target", "joined"), [(Target(), True), (OwnTarget(), False), (OneAtATimeTarget(), True)])
def test_a_connection_for_each_path_is_recognised(target: SimpleTarget, joined: bool, tmp_path: Path) -> None:
    with faults.install():
        assert are_joined(target, target.configurations[0], tmp_path) is joined


@pytest.mark.parametrize("target", [Target, OneAtATimeTarget])
def test_a_sound_store_that_shares_its_connection_by_path_is_silent(target: type[Target]) -> None:
    recorder = _searched(target())
    assert not recorder.findings
    assert not recorder.vacuous
    assert recorder.crashes[0].disks > 1


def test_what_it_loses_is_found() -> None:
    recorder = _searched(ForgetsTarget())
    assert {found.finding.code for found in recorder.findings} == {"acknowledged-is-durable"}


def test_a_scenario_of_it_shows_nothing_of_its_shadow(tmp_path: Path) -> None:
    target = Target()
    steps = (Call(target.calls[0]), Arm("write@1=FULL"), Call(target.calls[1]), Clear())
    with faults.install():
        violation, counts = play(Scenario("t", target.configurations[0], steps), target, tmp_path)
    assert violation is None
    assert counts["surfaced"] == 1
