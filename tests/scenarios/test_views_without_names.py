"""A change that stops half-way may leave a row whose name is NULL: a finding like any other, not an internal error."""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget
from tornpage.scenarios.search.recorder import Recorder

# A store whose opening fails leaves its connection to the garbage collector: from Python 3.13 on, that is a warning.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning")


class RowFirst:
    """Adds an empty row, then fills it in: each by itself."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("CREATE TABLE IF NOT EXISTS people (id INTEGER PRIMARY KEY, name TEXT, city TEXT)")

    def add(self, name: str, city: str) -> None:
        row = self.connection.execute("INSERT INTO people DEFAULT VALUES").lastrowid
        self.connection.execute("UPDATE people SET name = ?, city = ? WHERE id = ?", (name, city, row))

    def close(self) -> None:
        self.connection.close()


class InOneTransaction(RowFirst):
    """The same, and what fails is rolled back."""

    def add(self, name: str, city: str) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            super().add(name, city)
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise


class People(SimpleTarget):
    title = "people by their name"
    file = "people.sqlite"
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("add", {"name": "ada", "city": "London"}), Action("add", {"name": "carl", "city": "Ulm" * 2_000}))
    beat = Action("add", {"name": "heartbeat", "city": "alive"})
    store: type[RowFirst] = RowFirst

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> RowFirst:
        return self.store(path)

    def view(self, store: RowFirst) -> Mapping[str, str]:
        return self.rows(store.connection)

    def rows(self, connection: sqlite3.Connection) -> Mapping[str, str]:
        return dict(connection.execute("SELECT name, city FROM people"))


class SoundPeople(People):
    store = InOneTransaction


def test_a_row_without_a_name_that_a_failed_change_leaves_is_a_finding(search: Callable[..., Recorder]) -> None:
    recorder = search(People(), points=10)
    assert recorder.vacuous == []
    assert any("None: " in found.finding.message for found in recorder.findings)


def test_a_store_that_rolls_it_back_stays_silent(search: Callable[..., Recorder]) -> None:
    recorder = search(SoundPeople(), points=10)
    assert recorder.vacuous == []
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("fired") > 10
