"""A small change that also removes what has expired: a store that does so is sound, one that removes more is not."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration, View
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.recorder import Recorder

# It expires after the workload, at the time of the openings that follow it.
_TTL_S = 230


class Expiring:
    """Each `put` removes what has expired, in its transaction."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, value TEXT, expires REAL)")
        except BaseException:
            self.db.close()
            raise

    def put(self, key: str, value: str) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute("DELETE FROM entry WHERE expires <= ?", (time.time(),))
            self.db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (key, value, time.time() + _TTL_S))
            self.db.execute("COMMIT")
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def close(self) -> None:
        self.db.close()


class RemovesAllAfterAnError(Expiring):
    """Wrong: after an error its next `put` removes what has not expired, too."""

    has_failed = False

    def put(self, key: str, value: str) -> None:
        try:
            if self.has_failed:
                self.db.execute("DELETE FROM entry")
            super().put(key, value)
        except sqlite3.Error:
            self.has_failed = True
            raise


class ExpiringTarget(SimpleTarget):
    file = "store.sqlite"
    deterministic = True
    configurations = (Configuration("delete", "FULL"),)
    calls = (
        Action("put", {"key": "a", "value": "one"}),
        Action("put", {"key": "b", "value": "one"}),
        Action("put", {"key": "b", "value": "other"}),
    )
    beat = Action("put", {"key": "heartbeat", "value": "alive"})
    kind = Expiring

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Any:
        return self.kind(path)

    def view(self, store: Any) -> View:
        return self.rows(store.db)

    def rows(self, connection: Any) -> View:
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            return {}
        return {key: value for key, *value in connection.execute("SELECT * FROM entry").fetchall()}


class WrongTarget(ExpiringTarget):
    kind = RemovesAllAfterAnError


def searched(target: Any, search: str) -> Recorder:
    return run(target, Plan((search,), Profile("test", 1, 40, 6, 25), report=None))


@pytest.mark.parametrize("search", ["sweep", "kill", "fuzz"])
def test_what_has_expired_may_go_with_any_change(search: str) -> None:
    recorder = searched(ExpiringTarget(), search)
    assert not [one.finding.message for one in recorder.findings if "memory" not in one.finding.message]


def test_what_only_a_session_that_met_a_fault_removes_is_a_finding() -> None:
    messages = [one.finding.message for one in searched(WrongTarget(), "sweep").findings]
    assert any("changed more or less than its one key" in one for one in messages)
