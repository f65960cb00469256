"""A store that reads the clock and draws ids by itself: the same call leads to the same state, and is judged so."""

import contextlib
import random
import secrets
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.execution import sleeping
from tornpage.scenarios.execution.call_timeout import in_time
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.execution.preflight.other_clock import times_of_day_in
from tornpage.scenarios.model import ambient
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Restart, Scenario
from tornpage.scenarios.model.target import SetUpError
from tornpage.scenarios.run.campaign import Exit, run, verdict
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.declaration import what_is_wrong

pytestmark = [
    pytest.mark.skipif(not ambient.is_available(), reason="time-machine is not installed"),
    # A store whose opening fails leaves its connection to the garbage collector: a warning from Python 3.13 on.
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Job:
    payload: str
    name: str = field(default_factory=lambda: f"job-{uuid.uuid4()}")
    # Bound when the class was made.
    made: float = field(default_factory=time.time)


class Leases:
    """Jobs with random ids, and leases that end a minute after they were taken."""

    payload = "TEXT"

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS jobs "
            f"(name TEXT PRIMARY KEY, payload {self.payload}, made REAL, day TEXT, token TEXT, until REAL)"
        )

    def submit(self, payload: str) -> str:
        job = Job(payload)
        self.db.execute(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, NULL, 0)",
            (job.name, job.payload, job.made, datetime.now(UTC).isoformat()),
        )
        return job.name

    def claim(self) -> str | None:
        token, now = secrets.token_hex(8) + str(random.random()), time.time()  # noqa: S311 - as stores do
        taken = self.db.execute(
            "UPDATE jobs SET token = ? || hex(randomblob(4)), until = ? WHERE name = "
            "(SELECT name FROM jobs WHERE until < ? ORDER BY made LIMIT 1) RETURNING name",
            (token, now + 60, now),
        ).fetchall()
        return str(taken[0][0]) if taken else None

    def close(self) -> None:
        self.db.close()


class OncePerPayload(Leases):
    """Refuses a payload that it has, under whatever id."""

    payload = "TEXT UNIQUE"


class Swallows(Leases):
    """Says that a job was submitted whatever happened."""

    def submit(self, payload: str) -> str:
        with contextlib.suppress(sqlite3.OperationalError):
            return super().submit(payload)
        return ""


class Registers(Leases):
    """Each process that opens it has a row, by a random id and the time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS workers (id TEXT PRIMARY KEY, begun INTEGER UNIQUE)")
            self.register()
        except BaseException:
            self.db.close()
            raise

    def register(self) -> None:
        self.db.execute("INSERT INTO workers VALUES (?, ?)", (str(uuid.uuid4()), time.time_ns()))


class RegistersOnce(Registers):
    """Its second process can't be opened."""

    def register(self) -> None:
        self.db.execute("INSERT INTO workers VALUES ('the one', ?)", (time.time_ns(),))


class LeasesTarget(SimpleTarget):
    deterministic = True
    kind: type[Leases] = Leases
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("submit", {"payload": "a"}), Action("submit", {"payload": "b"}), Action("claim"), Action("claim"))
    beat = Action("submit", {"payload": "beat"})

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Leases:
        return self.kind(path)

    def view(self, store: Leases) -> Mapping[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> Mapping[str, Any]:
        return {name: rest for name, *rest in connection.execute("SELECT * FROM jobs").fetchall()}


def _searched(target: SimpleTarget, *searches: str, rehearses: bool = True) -> Recorder:
    profile = Profile("test", 1, 4, 4, 40, limit_points=4, crash_states=20)
    return run(target, Plan(searches, profile, report=None, rehearses=rehearses))


@pytest.mark.parametrize("search", ["sweep", "crash", "contend", "limits", "fuzz"])
def test_a_sound_store_with_random_ids_and_a_clock_is_silent(search: str) -> None:
    recorder = _searched(LeasesTarget(), search)
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS, recorder.vacuous


@pytest.mark.parametrize("search", ["sweep", "crash"])
def test_a_store_that_each_process_registers_in_by_a_random_id_and_the_time_is_silent(search: str) -> None:
    target = LeasesTarget()
    target.kind, target.calls = Registers, LeasesTarget.calls[:1]
    recorder = _searched(target, search)
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS, recorder.vacuous


def test_a_store_that_only_one_process_can_register_in_is_found() -> None:
    target = LeasesTarget()
    target.kind = RegistersOnce
    (found,) = _searched(target, "sweep").findings
    assert "UNIQUE constraint failed: workers.id" in found.finding.message


class NamesItsWorker(Leases):
    """A claim names the session that has made it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.worker = str(uuid.uuid4())

    def claim(self) -> str | None:
        self.db.execute("UPDATE jobs SET token = ? WHERE token IS NULL", (self.worker,))
        return None


def test_an_id_that_a_session_draws_when_it_is_opened_is_told_with_what_to_do() -> None:
    target = LeasesTarget()
    target.kind, target.calls = NamesItsWorker, (LeasesTarget.calls[0], Action("claim"))
    with pytest.raises(SetUpError, match="left out of view and rows, or given by `make`"):
        _searched(target, "sweep")


class NumbersByItself(Leases):
    """Its ids come from a generator of its own, which nobody replaces."""

    def submit(self, payload: str) -> None:
        number = random.Random().random()  # noqa: S311 - no secret
        self.db.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, NULL, 0)", (str(number), payload, 0, 0))


def test_what_is_not_replaced_is_told_where_the_rest_is() -> None:
    target = LeasesTarget()
    target.kind = NumbersByItself
    with pytest.raises(SetUpError, match="does not replace a clock that the store has imported"):
        _searched(target, "sweep")


def test_a_change_that_was_made_before_the_crash_may_be_refused_after_it() -> None:
    target = LeasesTarget()
    target.kind = OncePerPayload
    target.calls = (Action("submit", {"payload": "a"}), Action("submit", {"payload": "beat"}))
    # The contract allows no beat that a call has made; here it stands for one call on both sides of a crash.
    recorder = _searched(target, "crash", rehearses=False)
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS, recorder.vacuous


def test_a_defect_of_such_a_store_is_found() -> None:
    target = LeasesTarget()
    target.kind = Swallows
    codes = {found.finding.code for found in _searched(target, "sweep").findings}
    assert "acknowledged-is-durable" in codes


def test_the_same_call_has_the_same_time_and_values_and_a_repeated_one_others() -> None:
    def drawn(session: ambient.Ambient, call: str = "put(1)") -> tuple[Any, ...]:
        with session.during(call):
            return uuid.uuid4(), secrets.token_hex(4), random.random(), time.time(), datetime.now(UTC)  # noqa: S311

    environment = Environment()
    first, second = ambient.Ambient(environment), ambient.Ambient(environment)
    one = drawn(first)
    assert one == drawn(second)
    assert one[3] == environment.now_ms / 1000 == one[4].timestamp()
    again = drawn(first)
    assert not {*one[:3]} & {*again[:3]}
    assert not {*one[:3]} & {*drawn(second, "put(2)")[:3]}
    assert uuid.uuid4() != uuid.uuid4()
    assert abs(time.time() - time.time_ns() / 1e9) < 60 < abs(time.time() - one[3])


class Stamps(Leases):
    """Compares what Python and SQLite take for the time."""

    def claim(self) -> str | None:
        ours = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        time.sleep(2)
        theirs: str = self.db.execute("SELECT datetime('now', '-2 seconds')").fetchone()[0]
        return ours if ours == theirs else None


def test_sqlites_clock_shows_the_stopped_time_of_python(home: Path, shim: object) -> None:
    target = LeasesTarget()
    target.kind = Stamps
    with Executor(target, LeasesTarget.configurations[0], home) as executor:
        for step in (Restart(), Call(Action("claim"))):
            executor.do(step)
        assert executor.real.oracle.answer.value == "2023-11-14 22:15:20"
        executor.end()


def test_a_sleep_moves_the_stopped_clock_inside_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another test may have left two threads that wait for each other, and the sleep would be real.
    monkeypatch.setattr(sleeping, "live_threads", list)
    own = time.time
    with in_time("it"), ambient.Ambient(Environment()).during("it"):
        began, day = time.time(), datetime.now(UTC)
        time.sleep(86_400 / 48)
        assert time.time() - began == (datetime.now(UTC) - day).total_seconds() == 86_400 / 48
    assert time.time is own


def test_without_it_the_error_says_what_to_do() -> None:
    target = LeasesTarget()
    target.deterministic = False
    with pytest.raises(Exception, match=r"deterministic = True"):
        _searched(target, "sweep")


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ambient, "is_available", lambda: False)
    assert "pip install 'tornpage[deterministic]'" in what_is_wrong(LeasesTarget())


DRAWS = """
import sqlite3, time, uuid

class Notes:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, text TEXT, at REAL)")

    def add(self, text: str):
        self.db.execute("INSERT INTO notes VALUES (?, ?, ?)", (str(uuid.uuid4()), text, time.time()))

    def close(self):
        self.db.close()
"""


def test_a_first_target_of_such_a_store_is_deterministic(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "draws.py").write_text(DRAWS)
    wrote = command("new", "target", "--from", "draws:Notes")
    assert wrote.code == 0, wrote
    assert "deterministic: the time and the random values" in wrote.out
    assert "left out" not in wrote.out
    assert "    deterministic = True\n" in (tmp_path / "draws_target.py").read_text()
    swept = command("sweep", "--target", "draws_target:NotesTarget", "--quiet", "--jobs", 1)
    assert swept.code == 0, swept


def test_a_number_that_no_float_can_hold_is_no_time_of_day() -> None:
    assert list(times_of_day_in({"a": 10**900, "b": [-(10**900)], "now": time.time()}, "")) == ["now"]


@pytest.mark.parametrize("separator", ["T", " "])
def test_the_present_day_is_seen_in_either_form_of_iso_8601(separator: str) -> None:
    now, then = (datetime.fromtimestamp(one, UTC).isoformat(separator) for one in (time.time(), 0))
    assert list(times_of_day_in({"then": then, "now": now}, "")) == ["now"]


class Tokens:
    """Each put draws a new token."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS token (name TEXT PRIMARY KEY, token TEXT)")

    def put(self, name: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO token VALUES (?, ?)", (name, uuid.uuid4().hex))

    def close(self) -> None:
        self.db.close()


class TokensTarget(SimpleTarget):
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("put", {"name": "a"}),)
    beat = Action("put", {"name": "beat"})
    deterministic = True

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Tokens:
        return Tokens(path)

    def view(self, store: Tokens) -> Mapping[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return dict(connection.execute("SELECT name, token FROM token"))


def test_a_call_that_is_made_again_at_its_time_after_it_has_failed_draws_the_same_as_the_shadow(
    home: Path, shim: faults.Shim
) -> None:
    target, put = TokensTarget(), Action("put", {"name": "a"})
    steps = (Restart(), Arm("write@1=FULL"), Call(put, at=1, ends=True), Call(put, at=1), Call(put, at=1))
    violation, counts = play(Scenario(target.name, target.configurations[0], steps), target, home)
    assert violation is None
    assert counts["fired"] == 1
