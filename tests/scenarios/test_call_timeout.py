"""A call that never returns is stopped, named and a finding; a timer that was set before is there afterwards."""

import contextlib
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import others_stores
import pytest
import racing_stores
from meeting_stores import JobsTarget

from tornpage import faults
from tornpage.faults.contention.caller import Caller
from tornpage.faults.contention.process import RivalProcess
from tornpage.faults.contention.turns import Gate
from tornpage.faults.contention.waiting import waiting_for_a_rival
from tornpage.scenarios.execution import call_timeout, starvation
from tornpage.scenarios.execution.call_timeout import TookTooLongError, has_threads_of_the_store, in_time, patience
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, Interleave, Scenario
from tornpage.scenarios.model.target import Action, TargetError
from tornpage.scenarios.run.campaign import Exit, run, verdict

PUT = Action("put", {"key": "a"})


@pytest.fixture(autouse=True)
def little_patience() -> Iterator[call_timeout.Patience]:
    with patience(0.2) as found:
        yield found


def wait_for_ever() -> None:
    while True:
        time.sleep(0.001)


def compute_for_ever() -> None:
    # It sleeps not at all: an hour of sleep, which takes no real time, ends a call, too.
    while True:
        sum(range(1000))


def wait_whatever_happens() -> None:
    # Not so long by the clock: time without a processor is no time of a call.
    until = time.thread_time() + 0.6
    while time.thread_time() < until:
        try:
            sum(range(1000))
        except:  # noqa: E722, S112 - as stores do that retry for ever
            continue


@pytest.mark.parametrize("wait", [wait_for_ever, wait_whatever_happens])
def test_what_does_not_return_is_stopped_and_named(wait: Callable[[], None]) -> None:
    with pytest.raises(TookTooLongError, match=r"put\(key='a'\) did not return within 0.2 s"), in_time(PUT):
        wait()


def test_after_a_hang_less_time_is_lost(little_patience: call_timeout.Patience) -> None:
    with in_time(PUT):
        pass
    with patience(60.0) as found:
        found.has_met_a_hang = True
        found.returned(0.01)
        assert found.limit == 0.25
        found.returned(0.1)
        assert found.limit == 1.0
    assert not little_patience.has_met_a_hang
    assert little_patience.limit == 0.2


def test_a_timer_that_was_set_before_still_rings() -> None:
    rung: list[int] = []
    outer = signal.signal(signal.SIGALRM, lambda number, _frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TookTooLongError), in_time(PUT):
            wait_for_ever()
        assert rung == [signal.SIGALRM]
        signal.setitimer(signal.ITIMER_REAL, 30)
        with in_time(PUT):
            pass
        assert 29 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer)


def test_a_call_that_has_not_got_a_processor_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    began, computed_s = time.monotonic(), 0.3
    # As on a machine with so much other work that this one runs for a fifth of the time.
    monkeypatch.setattr(starvation, "starved", lambda: {"1": 0.8 * (time.monotonic() - began)})
    with in_time(PUT):
        while time.monotonic() - began < computed_s:
            sum(range(1000))
    with pytest.raises(TookTooLongError, match=r"did not return within 0.2 s"), in_time(PUT):
        compute_for_ever()
    # Half of its 0.2 s, and five times the other half.
    assert time.monotonic() - began - computed_s > 0.5


def test_the_time_in_which_the_harness_waits_for_a_rival_does_not_count() -> None:
    began = time.monotonic()
    with in_time(PUT):
        with waiting_for_a_rival():
            while time.monotonic() - began < 0.5:
                sum(range(1000))
        sum(range(1000))
    with waiting_for_a_rival():
        sum(range(1000))
    with pytest.raises(TookTooLongError, match=r"did not return within 0.2 s"), in_time(PUT):
        wait_for_ever()


def test_a_rival_that_is_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rival = RivalProcess()
    reader = rival._process.stdout
    assert reader is not None

    class Late:
        def readline(self) -> str:
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                sum(range(1000))
            return "free\n"

    with rival, monkeypatch.context() as patch:
        patch.setattr(rival._process, "stdout", Late())
        with in_time(PUT):
            rival.release()
        patch.undo()
    assert reader.closed


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system keeps no such accounts")
def test_the_time_without_a_processor_is_part_of_the_time_that_has_passed() -> None:
    before, began = starvation.starved(), time.monotonic()
    computed = time.thread_time()
    while time.thread_time() - computed < 0.05:
        pass
    assert str(os.getpid()) in before
    assert 0 <= starvation.longest_since(before) <= time.monotonic() - began


class TriesForEver(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def put(self, key: str, value: object = 1) -> None:
            while True:
                try:
                    super().put(key, value)
                except sqlite3.OperationalError:
                    continue
                return


class TriesForEverWhateverHappens(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            while True:
                try:
                    super().put(key, value)
                except:  # noqa: E722 - that is the defect
                    time.sleep(0.001)
                else:
                    return


class BacksUpForEver(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            # Where it is busy it asks again by itself, for ever and in C.
            with contextlib.closing(sqlite3.connect(":memory:")) as copy:
                self.db.backup(copy, sleep=0.001)
            super().put(key, value)


class SoundBacksUpForAWhile(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            asked = []

            def progress(status: int, *_pages: int) -> None:
                asked.append(status)
                if len(asked) > 10:
                    raise sqlite3.OperationalError("database is locked")

            with contextlib.closing(sqlite3.connect(":memory:")) as copy:
                self.db.backup(copy, progress=progress)
            super().put(key, value)


class SoundTriesThrice(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            for left in (2, 1, 0):
                try:
                    super().put(key, value)
                except sqlite3.OperationalError:
                    if not left:
                        raise
                else:
                    return


class HangsAnyway(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            wait_for_ever()


class HangsWhenItIsClosedToo(HangsAnyway):
    class kind(HangsAnyway.kind):  # noqa: N801
        def close(self) -> None:
            wait_for_ever()


def searched(target: Any, plan: str | None = None) -> Any:
    profile, hand = Profile("test", None, 4, 0, 0), None if plan is None else faults.FaultPlan.parse(plan)
    return run(target, Plan(("sweep",), profile, report=None, call_timeout_s=0.3, seed=2, by_hand=hand))


@pytest.mark.slow
@pytest.mark.parametrize("target", [TriesForEver, TriesForEverWhateverHappens])
def test_a_store_that_retries_for_ever_is_a_finding_and_the_search_goes_on(target: Any) -> None:
    recorder = searched(target())
    assert verdict(recorder) is Exit.FINDING
    assert {found.finding.code for found in recorder.findings} == {"still-usable-after-the-fault"}
    first = recorder.findings[0].finding
    assert "did not return within 0.3 s" in first.message
    assert "..=" in str(first.scenario)
    assert recorder.complete


@pytest.mark.slow
def test_a_call_that_asks_for_a_lock_for_ever_inside_c_is_a_finding_and_the_search_goes_on() -> None:
    recorder = searched(BacksUpForEver(), "lock:db@1..=BUSY")
    assert [found.finding.code for found in recorder.findings] == ["still-usable-after-the-fault"]
    assert "did not return within 0.3 s" in recorder.findings[0].finding.message
    assert recorder.complete
    # Nothing fails any more.
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t(x)")
    assert verdict(searched(SoundTriesThrice(), "lock:db@1=BUSY")) is Exit.HOLDS
    assert verdict(searched(SoundBacksUpForAWhile(), "lock:db@1..=BUSY")) is Exit.HOLDS


def test_a_store_that_gives_up_is_left_alone() -> None:
    recorder = searched(SoundTriesThrice())
    assert [found.finding.message for found in recorder.findings] == []


@pytest.mark.parametrize("target", [HangsAnyway, HangsWhenItIsClosedToo])
def test_a_call_that_hangs_without_a_fault_is_a_set_up_error(target: Any) -> None:
    hangs = r"put\(key='a'\) did not return within 0.3 s .*, without any fault; it stood at .*test_call_timeout.py:\d+"
    with pytest.raises(TargetError, match=hangs):
        searched(target())


class KeepsItsLock(others_stores.ShelfTarget):
    """A call that is refused keeps the lock, so that the next one waits for ever."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def set_up(self) -> None:
            super().set_up()
            self.lock = threading.Lock()

        def put(self, key: str, value: object = 1) -> None:
            with self.lock:
                super().put(key, value)

        def take(self, key: str) -> None:
            self.lock.acquire()
            if not self.db.execute("DELETE FROM item WHERE key = ?", (key,)).rowcount:
                raise KeyError(key)
            self.lock.release()


class WaitsForAnother(KeepsItsLock):
    """A call waits until another caller has put what it takes."""

    class kind(KeepsItsLock.kind):  # type: ignore[misc] # noqa: N801 - the attribute's name
        def take(self, key: str) -> None:
            while not self.db.execute("DELETE FROM item WHERE key = ?", (key,)).rowcount:
                time.sleep(0.001)


@pytest.mark.usefixtures("shim")
def test_a_call_that_hangs_only_after_another_one_is_a_finding(home: Path) -> None:
    def played(target: others_stores.ShelfTarget) -> Violation | None:
        scenario = Scenario(target.name, target.configurations[0], (Call(Action("take", {"key": "z"})), Call(PUT)))
        return play(scenario, target, home)[0]

    found = played(KeepsItsLock())
    assert found is not None
    assert found.code == "still-usable-after-the-fault"
    assert "; in a session that was just opened it returns" in str(found)
    # In a session that was just opened it hangs, too.
    assert played(WaitsForAnother()) is None


def take_a_lock_again_and_again(lock: "threading.RLock") -> None:
    while True:
        with lock:
            pass


class Asks(faults.FailedAllocation):
    """Keeps whether a call may be stopped at each of its allocations."""

    inside: frozenset[bool] = frozenset()

    def is_due(self) -> bool:
        self.inside |= {call_timeout._in_a_callback(sys._getframe())}
        return super().is_due()


def test_no_call_is_stopped_while_sqlite_waits_for_memory(tmp_path: Path) -> None:
    """ctypes would drop the exception, and answer SQLite with what lay in memory: the process was aborted."""
    with faults.exact_allocations():
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as db, (asked := Asks(None)).in_force():
            db.execute("CREATE TABLE t (x)")
        assert asked.reached
        assert asked.inside == {True}


def test_a_lock_that_is_being_taken_is_not_lost() -> None:
    lock = threading.RLock()
    for _ in range(100):
        with pytest.raises(TookTooLongError), call_timeout.limit(0.002, "too long"):
            take_a_lock_again_and_again(lock)
        with pytest.raises(RuntimeError, match="cannot release"):
            lock.release()


def test_who_waits_for_a_lock_is_stopped() -> None:
    lock = threading.Lock()
    with lock, pytest.raises(TookTooLongError), call_timeout.limit(0.002, "too long"), lock:
        pass


class WaitsWhereARivalIs(others_stores.ShelfTarget):
    """Waits without end after an error, as for an answer of a thread that the error has ended.

    A rival's clock stands still meanwhile.
    """

    class kind(others_stores.Shelf):  # noqa: N801
        def put(self, key: str, value: int = 1) -> None:
            # What SQLite waits for a lock would move the rival's clock.
            self.db.execute("PRAGMA busy_timeout = 0")
            try:
                super().put(key, value)
            except sqlite3.OperationalError:
                threading.Event().wait()


def test_a_call_that_hangs_while_a_rival_holds_a_lock_is_a_finding() -> None:
    profile = Profile("test", None, 4, 0, 0, rival_points=4)
    recorder = run(WaitsWhereARivalIs(), Plan(("contend",), profile, report=None, call_timeout_s=0.3))
    found = {finding.finding.code: finding.finding.message for finding in recorder.findings}
    assert "did not return within 0.3 s" in found["still-usable-after-the-fault"]


def test_a_thread_that_a_caller_runs_on_is_none_of_the_store() -> None:
    over = threading.Event()
    with patience(10):
        caller = Caller("A", Gate())
        try:
            caller.do(lambda: None)
            assert not has_threads_of_the_store()
            stores = threading.Thread(target=over.wait, daemon=True)
            caller.do(stores.start)
            assert has_threads_of_the_store()
        finally:
            over.set()
            caller.close()


@pytest.mark.parametrize("kind", [racing_stores.Waits, racing_stores.WaitsAndTakes])
def test_a_call_that_waits_for_another_caller_is_left_out_there(kind: type[Any], home: Path, shim: object) -> None:
    target = JobsTarget(kind)
    add, claim = Action("add", {"name": "a"}), Action("claim", {"worker": "one"})
    steps = (Call(claim), Call(add), Call(claim), Call(add), Call(claim), Call(claim))
    violation, counts = play(Scenario(target.name, target.configurations[0], steps), target, home)
    assert violation is None
    assert (counts["left_waiting"], counts["done"]) == (2, 5)
    # By now the process knows these states, which changes nothing but the time.
    assert play(Scenario(target.name, target.configurations[0], steps), target, home / "again") == (None, counts)


def test_fuzz_says_how_many_it_has_left_out() -> None:
    profile = Profile("test", 1, None, 3, 10, shrinks=False)
    recorder = run(JobsTarget(racing_stores.Waits), Plan(("fuzz",), profile, report=None, call_timeout_s=0.3))
    notes = [note for ended in recorder.ended for note in ended.notes]
    assert any(note.startswith("left out where they wait for another caller: ") for note in notes)
    assert not recorder.findings


def test_in_a_schedule_neither_call_is_made_then(home: Path, shim: object) -> None:
    target, claim = JobsTarget(racing_stores.Waits), Action("claim", {"worker": "one"})
    steps = (Call(Action("add", {"name": "a"})), Interleave(claim, claim, 1, callers="threads"), Call(claim))
    violation, counts = play(Scenario(target.name, target.configurations[0], steps), target, home)
    assert violation is None
    assert (counts["left_waiting"], counts["done"]) == (0, 4)
