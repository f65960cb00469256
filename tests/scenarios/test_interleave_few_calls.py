"""Two callers of a store whose target makes few calls: the schedules left over go to states and keys beyond these."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, Refused, SimpleTarget
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.recorder import Recorder

_ADD = "INSERT INTO booking VALUES (coalesce(?, 'place ' || (SELECT count(*) FROM booking)), ?, ?, ?)"


class Bookings:
    """Rooms: at most three bookings of one, and no two that overlap."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode = WAL").fetchall()
            self.db.execute("CREATE TABLE IF NOT EXISTS booking (ref TEXT PRIMARY KEY, room TEXT, first, last)")
        except BaseException:
            self.db.close()
            raise

    def _book(self, values: tuple[object, ...], rule: str, args: tuple[object, ...], most: int) -> bool:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            there = self.db.execute(f"SELECT count(*) FROM booking WHERE {rule}", args).fetchone()[0]
            if there < most:
                self.db.execute(_ADD, values)
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        return bool(there < most)

    def take(self, room: str) -> bool:
        """The next place in a room."""
        return self._book((None, room, 0, 0), "room = ?", (room,), 3)

    def book(self, ref: str, room: str, first: int, last: int) -> None:
        """Raises `Refused` if it overlaps."""
        rule = "room = ? AND first < ? AND last > ?"
        if not self._book((ref, room, first, last), rule, (room, last, first), 1):
            raise Refused("it overlaps")

    def close(self) -> None:
        self.db.close()


class LooksFirst(Bookings):
    """The rule is looked at before the transaction."""

    def _book(self, values: tuple[object, ...], rule: str, args: tuple[object, ...], most: int) -> bool:
        there = self.db.execute(f"SELECT count(*) FROM booking WHERE {rule}", args).fetchone()[0]
        if there < most:
            self.db.execute(_ADD, values)
        return bool(there < most)


class BookingsTarget(SimpleTarget):
    title = "rooms"
    callers = ("threads",)
    beat = Action("book", {"ref": "heartbeat", "room": "one", "first": 8, "last": 9})

    def __init__(self, kind: type[Bookings], *calls: Action) -> None:
        super().__init__()
        self.kind, self.calls = kind, calls

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Bookings:
        return self.kind(path)

    def view(self, store: Bookings) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {ref: list(rest) for ref, *rest in connection.execute("SELECT * FROM booking").fetchall()}


def interleave(kind: type[Bookings], *calls: Action) -> Recorder:
    plan = Plan(("interleave",), Profile("test", 1, None, 0, 0, schedules=120), report=None)
    return campaign.run(BookingsTarget(kind, *calls), plan)


TAKE = Action("take", {"room": "a"})
ONE = Action("book", {"ref": "a", "room": "one", "first": 8, "last": 9})


@pytest.mark.parametrize("calls", [(TAKE,), (ONE,)])
def test_a_rule_between_the_calls_of_a_short_workload_is_met(calls: tuple[Action, ...]) -> None:
    found = {one.finding.code for one in interleave(LooksFirst, *calls).findings}
    assert found == {"not-serializable"}
    assert interleave(Bookings, *calls).findings == []
