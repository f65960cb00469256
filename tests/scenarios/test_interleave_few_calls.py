"""Two callers of a store whose target makes few calls: the schedules left over go to states and keys beyond these."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import


class Bookings:
    """Rooms: at most three bookings of one, each with a seat of its own."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode = WAL").fetchall()
            self.db.execute("CREATE TABLE IF NOT EXISTS booking (ref TEXT PRIMARY KEY, room TEXT, seat INTEGER)")
        except BaseException:
            self.db.close()
            raise

    def taken(self, room: str) -> int:
        return int(self.db.execute("SELECT count(*) FROM booking WHERE room = ?", (room,)).fetchone()[0])

    def add(self, ref: str, room: str, seat: int) -> None:
        self.db.execute("INSERT OR IGNORE INTO booking VALUES (?, ?, ?)", (ref, room, seat))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise

    def take(self, room: str) -> bool:
        """The next place in a room."""
        with self.transaction():
            taken = self.taken(room)
            if taken < 3:
                self.add(f"place {taken}", room, 0)
        return taken < 3

    def seat(self, ref: str) -> None:
        """A booking with a number."""
        with self.transaction():
            self.add(ref, "one", self.taken("one"))

    def sit(self, ref: str, room: str) -> None:
        """One of two places in a room, for each a name."""
        with self.transaction():
            self.sits(ref, room)

    def sits(self, ref: str, room: str) -> None:
        if self.taken(room) > 1:
            raise ValueError(f"{room} is full")
        self.db.execute("INSERT INTO booking VALUES (?, ?, 0)", (ref, room))

    def party(self, ref: str, size: int) -> None:
        """A party: three people find room."""
        with self.transaction():
            self.comes(ref, size)

    def comes(self, ref: str, size: int) -> None:
        if self.db.execute("SELECT ? + total(seat) FROM booking", (size,)).fetchone()[0] > 3:
            raise ValueError("there is not enough room")
        self.db.execute("INSERT INTO booking VALUES (?, 'one', ?)", (ref, size))

    def close(self) -> None:
        self.db.close()


class LooksFirst(Bookings):
    """What is taken is looked at before the transaction."""

    def take(self, room: str) -> bool:
        taken = self.taken(room)
        if taken < 3:
            self.db.execute("INSERT INTO booking VALUES ('place ' || (SELECT count(*) FROM booking), ?, 0)", (room,))
        return taken < 3

    def seat(self, ref: str) -> None:
        self.add(ref, "one", self.taken("one"))

    def sit(self, ref: str, room: str) -> None:
        self.sits(ref, room)

    def party(self, ref: str, size: int) -> None:
        self.comes(ref, size)


class OpensOnce(Bookings):
    def first(self, ref: str) -> None:
        """The first booking of all."""
        with self.transaction():
            if self.taken("one"):
                raise ValueError("there are bookings")
            self.add(ref, "one", 0)


class BookingsTarget(SimpleTarget):
    title = "rooms"
    callers = ("threads",)
    beat = Action("seat", {"ref": "heartbeat"})

    def __init__(self, kind: type[Bookings], *calls: Action) -> None:
        super().__init__()
        self.kind, self.calls = kind, calls

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Bookings:
        return self.kind(path)

    def view(self, store: Bookings) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {ref: list(rest) for ref, *rest in connection.execute("SELECT * FROM booking").fetchall()}


def interleave(kind: type[Bookings], *calls: Action, schedules: int = 120, seed: int = 0) -> Recorder:
    plan = Plan(("interleave",), Profile("test", 1, None, 0, 0, schedules=schedules), report=None, seed=seed)
    return campaign.run(BookingsTarget(kind, *calls), plan)


TAKE = Action("take", {"room": "a"})
SEAT = Action("seat", {"ref": "a"})


@pytest.mark.parametrize("calls", [(TAKE,), (SEAT,)])
def test_a_rule_between_the_calls_of_a_short_workload_is_met(calls: tuple[Action, ...]) -> None:
    found = {one.finding.code for one in interleave(LooksFirst, *calls).findings}
    assert found == {"not-serializable"}
    assert interleave(Bookings, *calls).findings == []


def test_a_limit_that_the_workload_keeps_is_met_by_an_argument_of_the_heartbeat() -> None:
    def sitting(kind: type[Bookings]) -> Recorder:
        target = BookingsTarget(
            kind, Action("sit", {"ref": "a", "room": "one"}), Action("sit", {"ref": "b", "room": "one"})
        )
        target.beat = Action("sit", {"ref": "heartbeat", "room": "two"})
        return campaign.run(target, Plan(("interleave",), Profile("test", 1, 1, 0, 0, schedules=120), report=None))

    (found,) = sitting(LooksFirst).findings
    assert "sit(ref='heartbeat', room='one')" in found.finding.message
    assert sitting(Bookings).findings == []


@pytest.mark.parametrize("seed", range(3))
def test_two_calls_that_the_workload_makes_with_other_amounts_want_the_last_of_a_thing(seed: int) -> None:
    calls = Action("party", {"ref": "a", "size": 2}), Action("party", {"ref": "b", "size": 1})
    (found,) = interleave(LooksFirst, *calls, seed=seed).findings
    assert "party(ref='b', size=2) got acknowledged" in found.finding.message
    assert interleave(Bookings, *calls, seed=seed).findings == []


def test_calls_that_no_two_callers_made_are_named() -> None:
    def notes(kind: type[Bookings], *calls: Action, schedules: int, seed: int = 0) -> list[str]:
        recorder = interleave(kind, *calls, schedules=schedules, seed=seed)
        return [note for ended in recorder.ended for note in ended.notes]

    party = Action("party", {"ref": "z", "size": 1})
    assert notes(Bookings, TAKE, SEAT, party, schedules=2) == [
        "not made by two callers (no room; give it more --schedules): seat"
    ]
    assert notes(Bookings, TAKE, SEAT, schedules=120) == []
    once = Action("first", {"ref": "first"})
    refused = "not made by two callers (refused at each state that was tried): first"
    assert [refused] in [notes(OpensOnce, once, TAKE, TAKE, TAKE, schedules=24, seed=seed) for seed in range(4)]


def test_files_beside_the_rows_are_part_of_the_state_that_two_callers_meet() -> None:
    target = find_or_import("blob_stores:PartsTarget")
    recorder = campaign.run(target, Plan(("interleave",), Profile("test", 1, 1, 0, 0, schedules=60), report=None))
    assert not recorder.vacuous
    messages = [found.finding.message for found in recorder.findings]
    # One caller takes what the other has taken, or a part that is not written yet.
    assert {found.finding.code for found in recorder.findings} == {"not-serializable"}
    assert [message for message in messages if "finish(name='a') got 1; B: finish(name='a') got 1" in message]
