"""A store that leaves a file open where a call fails: the crashes of its later calls are tried elsewhere."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, Environment, SimpleTarget
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run import campaign


class Leaky:
    """Closes a file only if the rest of the call has worked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS item (key TEXT PRIMARY KEY)")
        except BaseException:
            self.db.close()
            raise

    def put(self, key: str) -> None:
        note = os.open(self.path.with_name("note"), os.O_CREAT | os.O_WRONLY)
        self.db.execute("INSERT OR IGNORE INTO item VALUES (?)", (key,))
        os.close(note)

    def close(self) -> None:
        self.db.close()


class LeakyTarget(SimpleTarget):
    configurations = (Configuration("delete", "FULL"),)
    callers = ()
    calls = tuple(Action("put", {"key": key}) for key in "abc")
    beat = Action("put", {"key": "heartbeat"})

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Leaky:
        return Leaky(path)

    def view(self, store: Leaky) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {key: True for (key,) in connection.execute("SELECT key FROM item").fetchall()}


def test_a_file_that_a_fault_has_left_open_ends_no_search() -> None:
    profile = Profile("test", 1, None, 0, 0, crash_states=120)
    recorder = campaign.run(LeakyTarget(), Plan(("crash",), profile, report=None))
    assert not recorder.vacuous
    assert recorder.count("fired") > 0
