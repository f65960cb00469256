"""Answers with values that the store makes by itself, of which no view tells: compared but for those."""

import datetime
import sqlite3
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, View, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.interleave.serial import Serial, State
from tornpage.scenarios.execution.kill.executor import play_killed
from tornpage.scenarios.execution.kill.protocol import Timed
from tornpage.scenarios.execution.kill.supervisor import Supervisor
from tornpage.scenarios.model.judging.answers import NotCompared
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.varying import differ_in_time_only, differ_where_these_do
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.kill_points import KillPoint, KillPoints
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep

NOW = time.time()
DAY_S = 86_400


def iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


TIMES = [
    ([1, NOW], [1, NOW + 0.01], True),
    ([2, NOW], [1, NOW + 0.01], False),
    ({"at": int(NOW * 1000)}, {"at": int(NOW * 1000) + 7}, True),
    ({"at": NOW}, {"until": NOW}, False),
    (NOW + 30 * DAY_S, NOW + 30 * DAY_S + 1, True),
    (NOW - 2 * DAY_S, NOW - 2 * DAY_S + 1, False),
    (NOW, NOW + 3600, False),
    (1_600_000_000_000, 1_600_000_000_001, False),
    (iso(NOW), iso(NOW + 1), True),
    (f"at {iso(NOW)[:19]} by a", f"at {iso(NOW + 1)[:19]} by a", True),
    (f"at {iso(NOW)[:19]} by a", f"at {iso(NOW + 1)[:19]} by b", False),
    ("2020-01-01 00:00:00", "2020-01-01 00:00:01", False),
    (str(NOW), str(NOW + 0.5), True),
    ([NOW], [NOW, NOW], False),
    (NOW, None, False),
    (True, False, False),
    (10**400, 10**400 + 1, False),
    (float("inf"), float("nan"), False),
]


@pytest.mark.parametrize(("one", "other", "is_so"), TIMES, ids=range(len(TIMES)))
def test_times_of_the_present_are_told_by_their_value(one: Any, other: Any, is_so: bool) -> None:
    assert differ_in_time_only(one, other) is is_so


@pytest.mark.parametrize(
    ("one", "other", "first", "second", "is_so"),
    [
        ([1, "a"], [1, "b"], [1, "c"], [1, "d"], True),
        ([2, "a"], [1, "b"], [1, "c"], [1, "d"], False),
        ([1, "a"], [1, "b"], [1, "c"], [1, "c"], False),
        ({"n": 1, "t": "a"}, {"n": 1, "t": "b"}, {"n": 1, "t": "c"}, {"n": 1, "t": "d"}, True),
        ([[1, "a"], [2, "b"]], [[1, "c"], [2, "d"]], [[1, "e"]], [[1, "f"]], True),
        ([[1, "a"], [3, "b"]], [[1, "c"], [2, "d"]], [[1, "e"]], [[1, "f"]], False),
        ("a", None, "b", "c", False),
        ("a", "b", None, None, False),
    ],
)
def test_what_varies_from_run_to_run_is_not_compared(
    one: Any, other: Any, first: Any, second: Any, is_so: bool
) -> None:
    assert differ_where_these_do(one, other, first, second) is is_so


class Stamps:
    """Writes a value of its own into each row."""

    def __init__(self, path: Path, own: Callable[[], object]) -> None:
        self.own = own
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("CREATE TABLE IF NOT EXISTS item (id TEXT PRIMARY KEY, n INTEGER, own)")

    def put(self, name: str, n: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO item VALUES (?, ?, ?)", (name, n, self.own()))

    def get(self, name: str) -> Any:
        return self.db.execute("SELECT n, own FROM item WHERE id = ?", (name,)).fetchone()

    def stats(self) -> Any:
        return None

    def close(self) -> None:
        self.db.close()


class Caches(Stamps):
    """Wrong: keeps what it could not write."""

    def __init__(self, path: Path, own: Callable[[], object]) -> None:
        super().__init__(path, own)
        self.kept: dict[str, Any] = {}

    def put(self, name: str, n: int) -> None:
        self.kept[name] = [n, None]
        super().put(name, n)
        self.kept[name] = super().get(name)

    def get(self, name: str) -> Any:
        own = super().get(name)
        return own and [self.kept.get(name, own)[0], own[1]]


class Counts(Stamps):
    """Tells how many of its calls have failed, and how many rows there are."""

    failed = 0

    def put(self, name: str, n: int) -> None:
        try:
            super().put(name, n)
        except sqlite3.Error:
            self.failed += 1
            raise

    def rows(self) -> int:
        return int(self.db.execute("SELECT count(*) FROM item").fetchone()[0])

    def stats(self) -> Any:
        return {"healthy": not self.failed, "failed": self.failed, "rows": self.rows()}


class CountsItself(Counts):
    """Wrong: counts its rows in memory, and a row that it could not write, too."""

    more = 0

    def put(self, name: str, n: int) -> None:
        before = self.rows()
        self.more += name == "b"
        super().put(name, n)
        self.more -= name == "b" and self.rows() > before

    def stats(self) -> Any:
        return {**super().stats(), "rows": self.rows() + self.more}


class Seals(Stamps):
    """Wrong: the seal of a row is written after it, by a call that may fail, and `stats` tells of a row without one."""

    def put(self, name: str, n: int) -> None:
        super().put(name, n)
        self.db.execute("UPDATE item SET own = 'sealed' WHERE id = ?", (name,))

    def stats(self) -> Any:
        return not self.db.execute("SELECT 1 FROM item WHERE own <> 'sealed'").fetchall()


OWN = {
    "seconds": time.time,
    "text": lambda: datetime.datetime.now(datetime.UTC).isoformat(),
    "token": lambda: uuid.uuid4().hex,
}
PUT, OTHER, GET = (
    Action("put", {"name": "a", "n": 1}),
    Action("put", {"name": "a", "n": 2}),
    Action("get", {"name": "a"}),
)


class StampsTarget(SimpleTarget):
    name = title = "stamps"
    configurations = (Configuration("delete", "FULL"),)
    callers = ("threads",)
    calls = (PUT, GET, OTHER)
    beat = Action("put", {"name": "heartbeat", "n": 0})

    def __init__(self, kind: type[Stamps], own: str) -> None:
        self.kind, self.own = kind, OWN[own]

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Stamps:
        return self.kind(path, self.own)

    def view(self, store: Stamps) -> View:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> View:
        return dict(connection.execute("SELECT id, n FROM item").fetchall())


class TokensTarget(StampsTarget):
    name = "test_varying_answers:TokensTarget"

    def __init__(self) -> None:
        super().__init__(Stamps, "token")


class Picks(Stamps):
    """`get` picks one of two at random, and happens to pick the same one a few times."""

    picked = 0

    def get(self, name: str) -> Any:
        Picks.picked += 1
        return "b" if Picks.picked > 4 else "a"


class StatsTarget(StampsTarget):
    calls = (PUT, Action("stats"), OTHER)


@pytest.mark.parametrize(("kind", "code"), [(Counts, None), (CountsItself, "wrong-answer"), (Seals, "wrong-answer")])
def test_what_tells_of_the_session_is_not_compared(
    kind: type[Stamps], code: str | None, home: Path, shim: object
) -> None:
    target = StatsTarget(kind, "token")
    new, stats = Action("put", {"name": "b", "n": 1}), Action("stats")
    # The rows of the second write are in the last page of the database that it writes.
    at = "sync:db@2=IOERR_FSYNC" if kind is Seals else "write:db@1=FULL"
    steps = (Call(PUT), Call(stats), Arm(at), Call(new), Clear(), Call(stats))
    violation, counts = play(Scenario(target.name, target.configurations[0], steps), target, home)
    assert (violation and violation.code, counts["fired"]) == (code, 1)


def played(target: StampsTarget, home: Path) -> str | None:
    """The check that a scenario breaks in which a call fails, others succeed, and the process ends once."""
    steps = (
        Call(PUT),
        Call(GET),
        Arm("write:db@1=FULL"),
        Call(OTHER),
        Clear(),
        Call(GET),
        Restart(crash=True),
        Call(GET),
    )
    violation, counts = play(Scenario(target.name, target.configurations[0], steps), target, home)
    assert counts["fired"]
    return violation and violation.code


@pytest.mark.parametrize("own", OWN)
def test_only_what_the_store_makes_by_itself_is_left_out(own: str, home: Path, shim: object) -> None:
    assert played(StampsTarget(Stamps, own), home / "right") is None
    assert played(StampsTarget(Caches, own), home / "wrong") == "wrong-answer"


@pytest.mark.parametrize("own", ["seconds", "token"])
def test_two_callers_may_meet_what_the_store_makes_by_itself(own: str) -> None:
    profile = Profile("test", 1, None, 0, 0, schedules=20)
    recorder = run(StampsTarget(Stamps, own), Plan(("interleave",), profile, seed=0, report=None))
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("schedules") >= 20


def test_a_killed_process_may_have_made_other_values_than_one_that_is_not(home: Path, shim: object) -> None:
    target = TokensTarget()
    steps = (Call(PUT), Call(GET), Restart(crash=True), Call(GET), Restart(crash=True))
    with Supervisor(target.name, home / "jobs") as supervisor:
        played = Scenario(target.name, target.configurations[0], steps)
        violation, counts = play_killed(played, target, home / "play", supervisor)
    assert violation is None
    assert counts["kills"] == 2


def test_what_is_picked_at_random_may_be_the_same_in_two_serial_orders(home: Path, shim: object) -> None:
    target, state = StampsTarget(Picks, "token"), State({}, {}, 1)
    serial = Serial(target, target.configurations[0], home, state)
    Picks.picked = 0
    assert serial.run(GET).said.value == "a"
    assert isinstance(serial.confirmed().run(GET).said.value, NotCompared)
    Picks.picked = 0
    assert serial.confirmed().run(PUT, OTHER).said.kind == "done"


def test_what_is_picked_at_random_may_be_another_one_before_a_kill(home: Path, shim: object) -> None:
    target = StampsTarget(Picks, "token")
    Picks.picked = -100
    starts = list(Sweep(target, Recorder(), home / "plain").starts(target.configurations[0]))
    points = KillPoints(target, starts, target.configurations[0], home / "warm")
    (start,) = (one for one in starts if one.action == GET)
    point = KillPoint.of(faults.FaultPlan.parse("write:journal@1=KILL").faults[0], start, is_warm=False)
    with pytest.raises(Violation, match="wrong-answer"):
        points.judge_answer(point, Timed(start.step, GET), "b")
    Picks.picked = 0
    points.judge_answer(point, Timed(start.step, GET), "b")
