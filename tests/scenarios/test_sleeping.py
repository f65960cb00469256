"""What a store sleeps in a call takes no real time, unless somebody else works meanwhile, and counts as no delay."""

import contextlib
import queue
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest

from tornpage import Action, Configuration, SimpleTarget
from tornpage.faults.child_processes import has_others
from tornpage.faults.contention.process import RivalProcess
from tornpage.scenarios.execution.call_timeout import TookTooLongError, in_time, patience
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run


class BacksOff:
    """Tries again after 1, 2, 4, 8 and 16 seconds, and then gives up."""

    tries = 6

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.patiently("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY)")
        except BaseException:
            self.db.close()
            raise

    def patiently(self, sql: str, *arguments: str) -> sqlite3.Cursor:
        tried = 0
        while True:
            try:
                return self.db.execute(sql, arguments)
            except sqlite3.OperationalError:
                tried += 1
                if tried == self.tries:
                    raise
                time.sleep(2.0 ** (tried - 1))

    def put(self, key: str) -> None:
        self.patiently("INSERT OR REPLACE INTO t VALUES (?)", key)

    def close(self) -> None:
        self.db.close()


class HasADeadline(BacksOff):
    """Tries again for a minute, by the clock `now`; sleep and clock may be names of the module."""

    def now(self) -> float:
        return time.time()

    def patiently(self, sql: str, *arguments: str) -> sqlite3.Cursor:
        until = self.now() + 60
        while True:
            try:
                return self.db.execute(sql, arguments)
            except sqlite3.OperationalError:
                if self.now() >= until:
                    raise
                sleep(0.5)


class CountsUpInNs(HasADeadline):
    def now(self) -> float:
        return time.time_ns() / 1e9


class ReadsThePerformanceCounter(HasADeadline):
    def now(self) -> float:
        return perf_counter()


class NeverGivesUp(BacksOff):
    """Tries again for good."""

    tries = -1


class Target(SimpleTarget):
    configurations = (Configuration("delete", "FULL"),)
    kind: type[BacksOff] = BacksOff
    calls = (Action("put", {"key": "a"}), Action("put", {"key": "b"}))
    beat = Action("put", {"key": "beat"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> BacksOff:
        return self.kind(path)

    def view(self, store: BacksOff) -> dict[str, int]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, int]:
        return {key: 1 for (key,) in connection.execute("SELECT k FROM t").fetchall()}


class Endless(Target):
    kind = NeverGivesUp


def _found(target: SimpleTarget) -> list[str]:
    recorder = run(target, Plan(("sweep",), Profile("test", 8, 8, 0, 0), report=None))
    assert not recorder.vacuous
    assert recorder.tallies
    return [found.finding.message for found in recorder.findings]


def test_a_store_that_backs_off_for_half_a_minute_and_gives_up_is_silent() -> None:
    began = time.monotonic()
    assert not _found(Target())
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("kind", [HasADeadline, CountsUpInNs, ReadsThePerformanceCounter])
@pytest.mark.parametrize("search", ["sweep", "contend"])
def test_a_deadline_of_a_minute_passes_in_virtual_time_on_every_clock(kind: type[BacksOff], search: str) -> None:
    target = Target()
    target.kind = kind
    recorder = run(target, Plan((search,), Profile("test", 8, 8, 0, 0, rival_points=8), report=None))
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.tallies


def test_it_is_silent_while_a_process_of_the_harness_is_alive() -> None:
    with RivalProcess():
        assert not has_others()
        assert not _found(Target())


def test_a_process_of_the_stores_is_seen_beside_those_of_the_harness() -> None:
    with RivalProcess(), subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert has_others()
        child.communicate(b"")
    assert not has_others()


def test_one_that_tries_for_good_is_found() -> None:
    assert any("did not return" in message for message in _found(Endless()))


def test_more_than_an_hour_of_sleep_is_for_ever_even_where_it_is_swallowed() -> None:
    def sleeps() -> None:
        for _ in range(3):
            with contextlib.suppress(BaseException):
                time.sleep(1900)

    with patience(20.0), pytest.raises(TookTooLongError, match="did not return"), in_time("it"):
        sleeps()


def test_what_waits_for_a_thread_of_its_own_sleeps_for_real() -> None:
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    answered: list[str] = []
    asked_again = threading.Event()

    def answer() -> None:
        asked_again.wait(10)
        answered.append(asked.get())

    with patience(20.0):
        worker = threading.Thread(target=answer)
        worker.start()
        with in_time("it"):
            asked.put("x")
            gives_up = time.monotonic() + 5
            while not answered and time.monotonic() < gives_up:
                time.sleep(0.001)
                asked_again.set()
        worker.join()
    assert answered == ["x"]


def test_the_clock_moves_with_what_is_slept_and_is_put_back() -> None:
    sleep, monotonic = time.sleep, time.monotonic
    with patience(20.0), in_time("it"):
        began = time.monotonic()
        time.sleep(500)
        assert time.monotonic() - began >= 500
        with pytest.raises(ValueError, match="non-negative"):
            time.sleep(-1)
    assert (time.sleep, time.monotonic) == (sleep, monotonic)


def test_a_wait_with_a_limit_that_nothing_can_end_is_a_sleep() -> None:
    before = threading.Condition.wait, queue.time, threading._time  # type: ignore[attr-defined]
    condition = threading.Condition()
    with patience(20.0), in_time("it"):
        began = time.monotonic()
        with condition:
            assert not condition.wait(500)
            assert not condition.wait_for(lambda: False, 500)
        with pytest.raises(queue.Empty):
            queue.Queue().get(timeout=500)
        assert not threading.Event().wait(500)
        assert not threading.Semaphore(0).acquire(timeout=500)
        assert 2_500 <= time.monotonic() - began < 2_510
    assert (threading.Condition.wait, queue.time, threading._time) == before  # type: ignore[attr-defined]


def test_a_wait_that_a_thread_ends_is_real() -> None:
    asked: queue.Queue[str] = queue.Queue()
    answered: queue.Queue[str] = queue.Queue()
    with patience(20.0):
        worker = threading.Thread(target=lambda: answered.put(asked.get()))
        worker.start()
        with in_time("it"):
            began = time.monotonic()
            asked.put("x")
            assert answered.get(timeout=500) == "x"
            assert time.monotonic() - began < 400
        worker.join()


class WaitsForAJob(BacksOff):
    """Waits half a minute for a job, and there is none."""

    def __init__(self, path: Path) -> None:
        self.filled = threading.Condition()
        super().__init__(path)

    def pop(self) -> str | None:
        with self.filled:
            self.filled.wait_for(lambda: False, 30)
        return None


class Waiting(Target):
    name = "test_sleeping:Waiting"
    calls = (*Target.calls, Action("pop"))
    kind = WaitsForAJob


@pytest.mark.parametrize("search", ["sweep", "interleave"])
def test_a_store_that_waits_for_what_does_not_come_is_silent(search: str) -> None:
    profile = Profile("test", 8, 8, 0, 0, schedules=8)
    recorder = run(Waiting(), Plan((search,), profile, report=None))
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.complete


class RestsFirst(BacksOff):
    def put(self, key: str) -> None:
        time.sleep(60)
        super().put(key)


class Resting(Target):
    name = "test_sleeping:Resting"
    kind = RestsFirst


@pytest.mark.parametrize("search", ["sweep", "contend", "interleave"])
def test_the_time_limit_of_a_run_is_real_time(search: str) -> None:
    """By a store's virtual time it was over after a few calls, or the run took longer than it had."""
    profile = Profile("test", 8, 8, 0, 0, schedules=8, rival_points=4)
    recorder = run(Resting(), Plan((search,), profile, report=None, max_time_s=200))
    assert recorder.complete
