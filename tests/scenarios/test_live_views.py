"""A store may hand out, as its view, the very mapping that it keeps and goes on changing: what was seen stays seen."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, SimpleTarget
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.campaign import Exit, verdict

SMALL = Profile(
    "small", 2, 40, scenarios=6, steps=12, crash_states=40, kills=6, rival_points=6, limit_points=8, shrinks=False
)


class Shelf:
    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.known: dict[str, dict[str, Any]] = {}
        self.is_stale = True
        try:
            self.connection.execute("CREATE TABLE IF NOT EXISTS book (title TEXT PRIMARY KEY, place TEXT)")
            self.shown()
        except BaseException:
            self.connection.close()
            raise

    def shown(self) -> dict[str, dict[str, Any]]:
        if self.is_stale:
            rows = self.connection.execute("SELECT title, place FROM book").fetchall()
            self.known = {title: {"place": place} for title, place in rows}
            self.is_stale = False
        return self.known

    def put(self, title: str, place: str) -> None:
        self.write("INSERT INTO book VALUES (?, ?) ON CONFLICT DO UPDATE SET place = excluded.place", title, place)
        self.shown().setdefault(title, {})["place"] = place

    def take(self, title: str) -> None:
        self.write("DELETE FROM book WHERE title = ?", title)
        self.shown().pop(title, None)

    def write(self, statement: str, *values: str) -> None:
        try:
            self.connection.execute(statement, values)
        except sqlite3.Error:
            # Whether it was committed is known to the file alone.
            self.is_stale = True
            raise

    def close(self) -> None:
        self.connection.close()


class MemoryFirst(Shelf):
    def put(self, title: str, place: str) -> None:
        self.known.setdefault(title, {})["place"] = place
        self.connection.execute(
            "INSERT INTO book VALUES (?, ?) ON CONFLICT DO UPDATE SET place = ?", (title, place, place)
        )


class ShelfTarget(SimpleTarget):
    title = "a shelf"
    name = "shelf"
    callers = ()
    configurations = (Configuration("delete", "FULL"),)
    calls = (
        Action("put", {"title": "a", "place": "1"}), Action("put", {"title": "b", "place": "1"}),
        Action("put", {"title": "a", "place": "2"}), Action("take", {"title": "a"}),
    )  # fmt: skip
    beat = Action("put", {"title": "heartbeat", "place": "0"})

    def __init__(self, kind: type[Shelf] = Shelf) -> None:
        super().__init__()
        self.kind = kind

    def make(self, path: Path, configuration: Configuration, environment: object) -> Shelf:
        return self.kind(path)

    def view(self, store: Shelf) -> dict[str, dict[str, Any]]:
        return store.shown()

    def rows(self, connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
        return {title: {"place": place} for title, place in connection.execute("SELECT title, place FROM book")}


@pytest.mark.slow
def test_a_sound_store_that_hands_out_what_it_keeps_holds() -> None:
    recorder = campaign.run(ShelfTarget(), Plan(("sweep", "crash", "contend", "limits", "fuzz"), SMALL, report=None))
    assert [found.finding.message for found in recorder.findings] == []
    assert [str(one) for one in recorder.vacuous] == []
    assert verdict(recorder) is Exit.HOLDS


def test_one_that_changes_its_memory_first_is_found() -> None:
    recorder = campaign.run(ShelfTarget(MemoryFirst), Plan(("sweep",), SMALL, report=None))
    assert {found.finding.code for found in recorder.findings} == {"memory-equals-disk"}
