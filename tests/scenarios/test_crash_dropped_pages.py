"""A sync that fails drops the pages of the log: what a checkpoint then copies was never on the disk.

At FULL a store's commits sync the log, so a failed one is the call's failure. At NORMAL only a checkpoint syncs it: the
failure is the checkpoint's, SQLite goes on, and the next sync reports success.
"""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, SimpleTarget
from tornpage.faults import Device
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.recorder import Recorder


class Checkpointed:
    """Keys and values; opening and each call end with a checkpoint."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute(f"PRAGMA synchronous = {synchronous}")
            self.db.execute("CREATE TABLE IF NOT EXISTS kv (name TEXT PRIMARY KEY, value)")
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except BaseException:
            self.db.close()
            raise

    def put(self, name: str, value: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (name, f"{value:08d}" * 700))
        if self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0]:
            raise sqlite3.OperationalError("database is locked: no checkpoint was made")

    def close(self) -> None:
        self.db.close()


class AtNormal(SimpleTarget):
    title = "keys with a checkpoint in each call"
    calls = tuple(Action("put", {"name": name, "value": value}) for name, value in (("a", 1), ("b", 2), ("a", 3)))
    beat = Action("put", {"name": "heartbeat", "value": 1})
    unpromised = {"waits-for-a-short-lock": "WAL on a new file waits for no lock"}  # noqa: RUF012 - a target's own
    configurations = (Configuration("wal", "NORMAL"),)

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Checkpointed:
        return Checkpointed(path, configuration.synchronous)

    def view(self, store: Checkpointed) -> dict[str, str]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, str]:
        return dict(connection.execute("SELECT name, substr(value, 1, 8) FROM kv"))


class AtFull(AtNormal):
    configurations = (Configuration("wal", "FULL"),)


def crashed(target: SimpleTarget, seed: int) -> Recorder:
    plan = Plan(
        ("crash",),
        Profile("test", None, 40, 0, 0, crash_states=60),
        seed=seed,
        report=None,
        device=Device(failed_sync="drops"),
    )
    return run(target, plan)


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("seed", range(3))
def test_what_a_checkpoint_s_failed_sync_has_dropped_is_found_with_each_seed(seed: int) -> None:
    assert [one.finding.code for one in crashed(AtNormal(), seed).findings] == ["survives-a-failed-sync"]


@pytest.mark.slow
def test_a_store_whose_commits_sync_the_log_is_not_accused() -> None:
    recorder = crashed(AtFull(), 0)
    assert not recorder.findings
    assert not recorder.vacuous
