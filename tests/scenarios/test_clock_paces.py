"""Leases and limits that are over at the next call, or never, where each call comes a minute after the last one."""

import itertools
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import tiny_stores

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.model.clock import EPOCH_MS, STEP_MS, Clock
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, ClockJump, ClockPace, Interleave, Restart
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.reproduce.replay_file import read, write
from tornpage.scenarios.search.interleave.paces import Paces
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.declaration import what_is_wrong
from tornpage.scenarios.targets.registry import find_or_import

WAL = Configuration("wal", "FULL")
DAY_MS = 86_400_000


class Timed:
    """What a process does when, by the environment's clock."""

    lasts_ms = 30_000

    def __init__(self, path: Path, environment: Environment) -> None:
        self.environment = environment
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self.db.execute("PRAGMA journal_mode = WAL").fetchall()
            self.db.execute("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, name TEXT, at INTEGER, by TEXT)")
        except BaseException:
            self.db.close()
            raise

    def since(self) -> int:
        return self.environment.now_ms - self.lasts_ms

    def close(self) -> None:
        self.db.close()


class Limiter(Timed):
    """Sound: two of a name in half a minute, counted and added by one statement."""

    most = 2

    def acquire(self, name: str) -> bool:
        added = self.db.execute(
            "INSERT INTO entry (name, at) SELECT ?1, ?2"
            " WHERE (SELECT count(*) FROM entry WHERE name = ?1 AND at > ?3) < ?4",
            (name, self.environment.now_ms, self.since(), self.most),
        )
        return added.rowcount > 0

    def forget(self, name: str) -> None:
        self.db.execute("DELETE FROM entry WHERE name = ?", (name,))


class CountsThenAdds(Limiter):
    """Two processes both count one, and there are three."""

    def acquire(self, name: str) -> bool:
        counted = "SELECT count(*) FROM entry WHERE name = ? AND at > ?"
        if self.db.execute(counted, (name, self.since())).fetchone()[0] >= self.most:
            return False
        self.db.execute("INSERT INTO entry (name, at) VALUES (?, ?)", (name, self.environment.now_ms))
        return True


class FiveInHalfAMinute(Limiter):
    most = 5


class CountsToFive(CountsThenAdds):
    most = 5


class Leases(Timed):
    """Sound: a lease of two hours; one that is over is taken by one statement, as a new one is."""

    lasts_ms = 7_200_000

    def add(self, name: str) -> None:
        self.db.execute("INSERT INTO entry (name) VALUES (?)", (name,))

    def lease(self, by: str) -> str | None:
        return self._taken("by IS NULL", by) or self.take_over(by)

    def _taken(self, where: str, by: str, *values: object) -> str | None:
        taken = self.db.execute(
            "UPDATE entry SET by = ?, at = ?"
            f" WHERE id = (SELECT id FROM entry WHERE {where} ORDER BY id) RETURNING name",
            (by, self.environment.now_ms, *values),
        ).fetchall()
        return taken[0][0] if taken else None

    def take_over(self, by: str) -> str | None:
        return self._taken("at <= ?", by, self.since())


class TakesOverTwice(Leases):
    """Two processes both see that a lease is over, and both have it."""

    def take_over(self, by: str) -> str | None:
        over = self.db.execute("SELECT id, name FROM entry WHERE at <= ? ORDER BY id", (self.since(),)).fetchone()
        if over is None:
            return None
        self.db.execute("UPDATE entry SET by = ?, at = ? WHERE id = ?", (by, self.environment.now_ms, over[0]))
        return str(over[1])


class TimedTarget(SimpleTarget):
    callers = ("threads",)
    kind: type[Timed]

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Timed:
        return self.kind(path, environment)

    def view(self, store: Timed) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {f"{number}": row for number, *row in connection.execute("SELECT id, name, at, by FROM entry")}


class Expires(Leases):
    """Says of a lease when it is over, and nothing to its caller."""

    def expire(self) -> None:
        self.db.execute("UPDATE entry SET by = 'expired' WHERE at <= ?", (self.since(),))


class LimiterTarget(TimedTarget):
    kind = Limiter
    calls = (Action("acquire", {"name": "a"}), Action("acquire", {"name": "b"}))
    beat = Action("acquire", {"name": "heartbeat"})


class CountsThenAddsTarget(LimiterTarget):
    kind = CountsThenAdds


class ForgetsTarget(LimiterTarget):
    """The limit is reached only if one call is made more often than the workload, which takes back all it has."""

    kind = FiveInHalfAMinute
    calls = (Action("acquire", {"name": "a"}), Action("forget", {"name": "a"}))


class ForgetsAndCountsTarget(ForgetsTarget):
    kind = CountsToFive


class LeasesTarget(TimedTarget):
    kind = Leases
    calls = (Action("add", {"name": "a"}), Action("lease", {"by": "one"}), Action("lease", {"by": "two"}))
    beat = Action("add", {"name": "heartbeat"})


class ExpiresTarget(TimedTarget):
    kind = Expires
    calls = (Action("add", {"name": "a"}), Action("lease", {"by": "one"}), Action("expire"))
    beat = Action("add", {"name": "heartbeat"})


class TakesOverTwiceTarget(LeasesTarget):
    kind = TakesOverTwice


def searched(name: str) -> Recorder:
    target = find_or_import(f"{__name__}:{name}")
    return campaign.run(target, Plan(("interleave",), Profile("test", 1, None, 0, 0, schedules=24), report=None))


@pytest.mark.parametrize("name", ["LimiterTarget", "LeasesTarget", "ForgetsTarget"])
def test_a_sound_limit_or_lease_is_silent_at_each_pace(name: str) -> None:
    recorder = searched(name)
    assert recorder.findings == []
    assert recorder.count("schedules") > 24


@pytest.mark.parametrize(
    ("name", "code", "step_ms"),
    [
        ("CountsThenAddsTarget", "not-serializable", 1_000),
        ("ForgetsAndCountsTarget", "not-serializable", 1_000),
        ("TakesOverTwiceTarget", "handed-out-twice", DAY_MS),
    ],
)
def test_a_race_for_what_lasts_seconds_or_hours_is_found_and_replayed(
    name: str, code: str, step_ms: int, tmp_path: Path, shim: object
) -> None:
    (found,) = searched(name).findings
    assert found.finding.code == code
    scenario = found.finding.scenario
    assert scenario.steps[0] == ClockPace(step_ms)
    assert isinstance(scenario.steps[-1], Interleave)
    target, again = find_or_import(scenario.target), read(write(found.finding, tmp_path, 0)).scenario
    violation, _ = play(again, target, tmp_path / "again")
    assert violation is not None
    assert violation.code == code
    # A minute apart nothing is wrong with it.
    as_usual = type(again)(again.target, again.configuration, again.steps[1:])
    assert play(as_usual, target, tmp_path / "as-usual")[0] is None


def states(target: SimpleTarget, home: Path, most: int | None = None) -> list[tuple[int, int, str]]:
    found = Paces(target, home / "dry", WAL, set()).states(most)
    return [(state.clock.step_ms, len(state.before), str(changed)) for state, changed in found]


def test_two_callers_are_tried_before_the_call_that_another_pace_changes_and_the_one_before_it(
    home: Path, shim: object
) -> None:
    # Two of each name in half a minute: the third of `a` is the fifth call, and the first that is made again.
    acquire, lease = (str(target.calls[at]) for target, at in ((LimiterTarget, 0), (LeasesTarget, 2)))
    assert states(LimiterTarget(), home) == [(1_000, 3, acquire), (1_000, 4, acquire)]
    assert states(LimiterTarget(), home, 1) == [(1_000, 3, acquire)]
    assert states(LeasesTarget(), home) == [(DAY_MS, 1, lease), (DAY_MS, 2, lease)]
    expire = str(ExpiresTarget.calls[-1])
    # What is said in words has changed; the call after it only meets that, and numbers may be times.
    assert states(ExpiresTarget(), home) == [(DAY_MS, 1, expire), (DAY_MS, 2, expire)]


def last_ones(target: SimpleTarget, home: Path) -> list[tuple[int, str]]:
    return [(len(state.before), str(call)) for state, call in Paces(target, home / "dry", WAL, set()).last_ones()]


def test_a_call_is_made_by_two_where_it_works_for_the_last_time(home: Path, shim: object) -> None:
    assert last_ones(ForgetsTarget(), home) == [(4, str(ForgetsTarget.calls[0]))]
    # The first two calls are tried before the calls of the workload.
    assert last_ones(LimiterTarget(), home) == []
    # Without a limit of so many.
    target = ForgetsTarget()
    target.kind = type("Many", (FiveInHalfAMinute,), {"most": 20})
    assert last_ones(target, home) == []


def test_a_store_that_does_not_ask_for_the_time_has_no_state_at_another_pace(home: Path, shim: object) -> None:
    assert states(tiny_stores.Tiny(), home) == []


def test_the_clock_moves_by_a_length_of_its_own_from_a_step_on() -> None:
    clock = Clock().paced(1, 1_000)
    assert [clock.at(step) - EPOCH_MS for step in (1, 2, 3)] == [STEP_MS, STEP_MS + 1_000, STEP_MS + 2_000]
    assert clock.jumped(-DAY_MS).at(2) == clock.at(2) - DAY_MS
    assert Clock().jumped(-2 * EPOCH_MS).at(1) == 0


class TellsTheTime(Timed):
    def note(self, name: str) -> int:
        self.db.execute("INSERT INTO entry (name, at) VALUES (?, ?)", (name, self.environment.now_ms))
        return self.environment.now_ms


class TellsTheTimeTarget(TimedTarget):
    kind = TellsTheTime
    calls = (Action("note", {"name": "a"}), Action("note", {"name": "b"}))
    beat = Action("note", {"name": "heartbeat"})


def times(target: Target, home: Path, *steps: Any) -> list[int]:
    with Executor(target, WAL, home) as executor:
        for step in steps:
            executor.do(step)
        noted = [row[1] for _, row in sorted(executor.view.items())]
        executor.end()
    return [later - earlier for earlier, later in itertools.pairwise(noted)]


@pytest.mark.parametrize(
    ("step", "apart"), [(ClockPace(1_000), 1_000), (ClockJump(DAY_MS), DAY_MS + 2 * STEP_MS)], ids=["pace", "jump"]
)
def test_two_callers_have_the_clock_that_the_calls_before_them_have_had(
    step: ClockPace | ClockJump, apart: int, home: Path, shim: faults.Shim
) -> None:
    target = find_or_import(f"{__name__}:TellsTheTimeTarget")
    a, b = target.workload()
    first, second = times(target, home, Restart(), Call(a), step, Interleave(a, b))
    # The calls of two callers are made at one time.
    assert (first, second) == (apart if isinstance(step, ClockJump) else STEP_MS + 1_000, 0)


def test_a_target_has_a_length_of_its_own_in_each_search(home: Path, shim: faults.Shim) -> None:
    target = TellsTheTimeTarget()
    target.clock_step_ms = 250
    a, b = target.calls
    assert times(target, home, Restart(), Call(a), Call(b)) == [250]


@pytest.mark.parametrize("length", [0, -1, 1.5, True, "1s"])
def test_a_wrong_length_is_named_with_what_is_allowed(length: Any) -> None:
    said = what_is_wrong(type("Wrong", (tiny_stores.Tiny,), {"clock_step_ms": length})())
    assert said.startswith(f"clock_step_ms is {length!r}; give the milliseconds")
