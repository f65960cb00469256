"""After a failed call the next one of its name is made: it must not complete what the failed one has prepared."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]


class Imports:
    """Stages what it imports in a temporary table, and empties that first, in the same transaction."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS name (name TEXT PRIMARY KEY)")
            self.db.execute("CREATE TEMP TABLE staged (name TEXT)")
        except BaseException:
            self.db.close()
            raise

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO name VALUES (?)", (name,))

    def load(self, names: Sequence[str]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute("DELETE FROM staged")
            self.db.executemany("INSERT INTO staged VALUES (?)", [(name,) for name in names])
            self.db.execute("INSERT OR IGNORE INTO name SELECT name FROM staged")
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self.db.close()


class EmptiesItAfterwards(Imports):
    def load(self, names: Sequence[str]) -> None:
        self.db.executemany("INSERT INTO staged VALUES (?)", [(name,) for name in names])
        self.db.execute("INSERT OR IGNORE INTO name SELECT name FROM staged")
        self.db.execute("DELETE FROM staged")


class KeepsAList(Imports):
    """The same in memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.staged: list[str] = []

    def load(self, names: Sequence[str]) -> None:
        self.staged += names
        super().load(self.staged)
        self.staged.clear()


class ImportsTarget(SimpleTarget):
    name = "imports"
    configurations = (Configuration("delete", "FULL"),)
    callers = ()
    calls = (Action("load", {"names": ["a", "b"]}), Action("add", {"name": "c"}), Action("load", {"names": ["d"]}))
    beat = Action("add", {"name": "heartbeat"})

    def __init__(self, kind: type[Imports]) -> None:
        super().__init__()
        self.kind = kind

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Imports:
        return self.kind(path)

    def view(self, store: Imports) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {name: True for (name,) in connection.execute("SELECT name FROM name").fetchall()}


@pytest.mark.parametrize("kind", [EmptiesItAfterwards, KeepsAList])
def test_what_a_failed_call_has_staged_is_found_in_the_next_one(search: Search, kind: type[Imports]) -> None:
    (found,) = search(ImportsTarget(kind), "sweep", points=8, most_findings=1).findings
    assert found.finding.code == "acknowledged-is-durable"
    assert [step.action.name for step in found.finding.scenario.steps if hasattr(step, "action")] == ["load", "load"]


def test_a_store_that_begins_anew_is_not_accused(search: Search) -> None:
    assert search(ImportsTarget(Imports), "sweep", points=8).findings == []
