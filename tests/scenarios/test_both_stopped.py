"""A race that shows only where both callers are stopped: two of hundreds of such schedules of a pair are tried."""

import time
from random import Random
from typing import Any

import pytest
from meeting_stores import Jobs, JobsTarget
from seeds import first_of

from tornpage import Action
from tornpage.faults.contention.schedule import Hop
from tornpage.faults.contention.turns import Paused, Point
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Interleave
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.interleave.both_stopped import BothStopped
from tornpage.scenarios.search.recorder import Recorder


class LocksARow(Jobs):
    """Counts under a lock that is a row: taken by one statement, waited for in a loop."""

    def take(self) -> bool:
        return self.db.execute("INSERT OR IGNORE INTO job (id) VALUES ('lock')").rowcount == 1

    def count(self, name: str) -> None:
        while not self.take():
            time.sleep(0.1)
        rows = self.db.execute("SELECT n FROM job WHERE id = ?", (name,)).fetchall()
        n = rows[0][0] + 1 if rows else 1
        self.db.execute("INSERT OR REPLACE INTO job (id, n) VALUES (?, ?)", (name, n))
        self.db.execute("DELETE FROM job WHERE id = 'lock'")


class LooksForTheRow(LocksARow):
    """Wrong: looks for the lock first, then takes it; both may have it, and both have to stop for the loss."""

    def take(self) -> bool:
        if self.db.execute("SELECT 1 FROM job WHERE id = 'lock'").fetchone():
            return False
        self.db.execute("INSERT OR REPLACE INTO job (id) VALUES ('lock')")
        return True


class LocksARowTarget(JobsTarget):
    callers = ("threads",)
    kind = LocksARow
    calls = (Action("count", {"name": "a"}), Action("count", {"name": "b"}))
    beat = Action("count", {"name": "heartbeat"})

    def view(self, store: Any) -> Any:
        return self.rows(store.db)

    def rows(self, connection: Any) -> Any:
        return dict(connection.execute("SELECT id, n FROM job WHERE id != 'lock'"))


def interleave(target: Target, seed: int) -> Recorder:
    profile = Profile("test", 1, None, 0, 0, schedules=120)
    return campaign.run(target, Plan(("interleave",), profile, seed=seed, report=None))


@pytest.mark.parametrize("seed", first_of(range(4)))
def test_a_race_of_two_stops_is_found_and_its_sound_twin_is_silent(seed: int) -> None:
    caught = interleave(LocksARowTarget(LooksForTheRow), seed)
    assert {found.finding.code for found in caught.findings} == {"not-serializable"}
    assert [found.finding.message for found in interleave(LocksARowTarget(), seed).findings] == []


FIRST, SECOND = Action("first"), Action("second")


def stopped_at(lines: str) -> tuple[Hop, ...]:
    """A caller that stops at each of its points: one character is a line."""
    return tuple(Hop("A", Paused(Point(at, "lock", line))) for at, line in enumerate(lines, 1))


def test_both_stop_where_a_line_begins_and_at_others_the_next_time() -> None:
    drawn = BothStopped(Random(0))  # noqa: S311 - the same draw each time
    drawn.note(Interleave(FIRST, SECOND), stopped_at("aaabbc"))
    drawn.note(Interleave(SECOND, FIRST), stopped_at("xxyz"))
    first, second = (drawn.draw(FIRST, SECOND, (6, 4), 2) for _ in range(2))
    assert sorted(first + second) == [(4, 3), (4, 4), (6, 3), (6, 4)]
    assert drawn.draw(FIRST, FIRST, (6, 6), 9) == [(4, 4), (4, 6), (6, 4), (6, 6)]


def test_of_calls_that_were_never_stopped_any_points_are_drawn() -> None:
    drawn = BothStopped(Random(0))  # noqa: S311 - the same draw each time
    assert drawn.draw(FIRST, SECOND, (2, 3), 9) == [(1, 2), (1, 3), (2, 2), (2, 3)]
    assert drawn.draw(FIRST, SECOND, (2, 1), 9) == []
