"""A connection for each call, dropped and never closed: the garbage collector closes it, and no verdict may differ."""

import contextlib
import gc
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.execution.dropped import collected
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import Exit, run, verdict
from tornpage.scenarios.search.recorder import Recorder

# From Python 3.13 on, a connection that the collector closes is a warning.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning")


class Drops:
    """`with` commits, and does not close."""

    mode = "wal"

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.connected() as db:
            db.execute(f"PRAGMA journal_mode = {self.mode}")
            db.execute("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, n INTEGER)")

    def connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None)

    def put(self, key: str) -> None:
        with self.connected() as db:
            db.execute("INSERT OR REPLACE INTO t VALUES (?, 1)", (key,))

    def raise_all(self) -> int:
        with self.connected() as db:
            return db.execute("UPDATE t SET n = n + 1").rowcount

    def close(self) -> None:
        """Nothing to close."""


class KeepsTheLock(Drops):
    """Where COMMIT meets a reader, its transaction is left open."""

    mode = "delete"

    def raise_all(self) -> int:
        db = self.connected()
        db.execute("BEGIN IMMEDIATE")
        changed = db.execute("UPDATE t SET n = n + 1").rowcount
        db.execute("COMMIT")
        return changed


class Target(SimpleTarget):
    kind: type[Drops] = Drops
    calls = (Action("put", {"key": "a"}), Action("put", {"key": "b"}), Action("raise_all"))
    beat = Action("put", {"key": "beat"})
    unpromised = {"waits-for-a-short-lock": "WAL on a new file waits for no lock"}  # noqa: RUF012 - a declaration

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Drops:
        return self.kind(path)

    def view(self, store: Drops) -> Mapping[str, int]:
        with contextlib.closing(store.connected()) as db:
            return self.rows(db)

    def rows(self, connection: sqlite3.Connection) -> Mapping[str, int]:
        return dict(connection.execute("SELECT k, n FROM t").fetchall())


def _searched(target: SimpleTarget, search: str, **sizes: Any) -> Recorder:
    profile = Profile("test", 1, 8, 4, 20, crash_states=20, limit_points=6, rival_points=4, **sizes)
    return run(target, Plan((search,), profile, report=None))


@pytest.mark.parametrize("search", ["sweep", "crash", "contend", "limits", "fuzz"])
def test_a_sound_store_is_silent(search: str) -> None:
    recorder = _searched(Target(), search)
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS, recorder.vacuous


def test_one_that_drops_a_connection_with_its_lock_is_found() -> None:
    target = Target()
    target.kind, target.configurations = KeepsTheLock, (Configuration("delete", "FULL"),)
    found = [one.finding for one in _searched(target, "sweep").findings]
    assert {one.code for one in found} == {"still-usable-after-the-fault"}
    assert all(one.shows_again for one in found)


def test_what_a_scope_drops_is_closed_at_its_end_unless_it_is_in_a_transaction(tmp_path: Path) -> None:
    def drop(sql: str) -> None:
        sqlite3.connect(tmp_path / "d.db", isolation_level=None).execute(sql).close()

    gc.disable()
    try:
        kept: list[Any] = []
        with faults.install() as shims:
            with collected():
                with collected(kept):
                    drop("SELECT 1")
                assert not shims.paths
                with collected(kept):
                    drop("BEGIN IMMEDIATE")
                assert len(kept) == 1
                gc.collect()
                assert shims.paths
                kept.clear()
            assert not shims.paths
    finally:
        gc.enable()


def test_what_a_failed_opening_has_dropped_is_closed_by_a_young_collection(tmp_path: Path) -> None:
    """A full collection looks through all objects of the program: tens of milliseconds, at each point."""

    def opens() -> None:
        db = sqlite3.connect(tmp_path / "d.db", isolation_level=None)
        db.execute("SELECT 1").close()
        raise RuntimeError("the table is there")

    gc.disable()
    try:
        with faults.install() as shims:
            kept: list[Any] = []
            with collected(kept):
                try:
                    with collected(kept):
                        opens()
                except RuntimeError as error:
                    forget_frames(error)
            assert not shims.paths
    finally:
        gc.enable()
