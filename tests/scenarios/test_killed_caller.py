"""Two processes, of which one is killed in the middle of its call while the other one stands in its own."""

import contextlib
import fcntl
import os
import select
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.faults.contention.schedule import alone
from tornpage.faults.contention.turns import Ended, Paused, Waiting
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.execution.interleave.schedule import Stage, hops_in_words
from tornpage.scenarios.execution.interleave.serial import Serial, State
from tornpage.scenarios.execution.interleave.sessions import PENDING, InProcess, Setting, pair
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Interleave, Scenario
from tornpage.scenarios.model.target import Target, View
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.reproduce.replay_file import ReplayFileError, read, write
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import


class Shelf:
    """Boxes. Sound: what keeps others out is SQLite's lock, and the system's."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".lock")
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS box (name TEXT PRIMARY KEY, n INTEGER)")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self.path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def put(self, name: str, n: int) -> None:
        with self.alone():
            self.db.execute("INSERT OR REPLACE INTO box VALUES (?, ?)", (name, n))

    def wait(self) -> None:
        lock = threading.Lock()
        with lock, lock:
            pass

    def names(self) -> list[str]:
        return sorted(name for (name,) in self.db.execute("SELECT name FROM box").fetchall())

    def close(self) -> None:
        self.db.close()


class Small(Shelf):
    """Sound: has room for `n` other boxes."""

    def put(self, name: str, n: int) -> None:
        if len(set(self.names()) - {name}) > n:
            raise ValueError("the shelf is full")
        super().put(name, n)
        self.names()

    def drop(self, name: str) -> None:
        with self.alone():
            self.db.execute("DELETE FROM box WHERE name = ?", (name,))


class ByItsFile(Shelf):
    """Keeps others out by a file, which stays where the process dies."""

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        until = time.monotonic() + 5
        while True:
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                if time.monotonic() > until:
                    raise TimeoutError("another process is at work") from None
                time.sleep(0.1)
        try:
            yield
        finally:
            self.path.unlink()


class TriesAgain(Shelf):
    """Sound: whatever a lock raises, it tries again."""

    def put(self, name: str, n: int) -> None:
        with contextlib.suppress(Exception):
            super().put(name, n)
            return
        super().put(name, n)


class ShelfTarget(SimpleTarget):
    title = "boxes"
    file = "boxes.db"
    callers = ("processes",)
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("put", {"name": "a", "n": 1}), Action("put", {"name": "a", "n": 2}))
    beat = Action("put", {"name": "heartbeat", "n": 0})
    kind = Shelf

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Shelf:
        return self.kind(path)

    def view(self, store: Shelf) -> View:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> View:
        return dict(connection.execute("SELECT * FROM box").fetchall())


class SmallTarget(ShelfTarget):
    kind = Small
    # There is room for the heartbeat after each of them, but not after two at once.
    calls = (Action("put", {"name": "a", "n": 1}), Action("drop", {"name": "a"}), Action("put", {"name": "b", "n": 2}))
    beat = Action("put", {"name": "heartbeat", "n": 1})


class TriesAgainTarget(ShelfTarget):
    kind = TriesAgain


class ByItsFileTarget(ShelfTarget):
    kind = ByItsFile


def target(kind: type[ShelfTarget]) -> Target:
    return find_or_import(f"{__name__}:{kind.__name__}")


class CommitsOftenTarget(ShelfTarget):
    many_commits = ("put",)


def interleave(target: Target, preemptions: int = 2, schedules: int = 24) -> Recorder:
    profile = Profile("test", 1, None, 0, 0, schedules=schedules)
    return campaign.run(target, Plan(("interleave",), profile, report=None, preemptions=preemptions))


def killed(recorder: Recorder) -> int:
    return sum(tally.fired for series, tally in recorder.tallies.items() if series.effect == "killed")


def test_a_store_whose_locks_end_with_the_process_is_sound() -> None:
    recorder = interleave(target(ShelfTarget))
    assert recorder.findings == []
    assert killed(recorder)


@pytest.mark.parametrize(("kind", "preemptions"), [(ShelfTarget, 1), (CommitsOftenTarget, 2)])
def test_none_is_killed_with_one_preemption_or_between_two_commits(kind: type[ShelfTarget], preemptions: int) -> None:
    recorder = interleave(target(kind), preemptions)
    assert recorder.count("schedules")
    assert not killed(recorder)


def test_no_room_for_the_heartbeat_after_both_calls_is_no_finding(tmp_path: Path) -> None:
    tested, home = target(SmallTarget), tmp_path / "home"
    one, _, other = SmallTarget.calls
    with faults.install(), pair(tested, "processes", home) as sessions:
        stage = Stage(sessions, home, tested.configurations[0])
        serial = Serial(tested, stage.configuration, home, State({}, {}, 1))
        seen = [
            stage.play(Interleave(one, other, switch=1, back=back, killed=True), serial).outcome.view
            for back in range(2, 9)
        ]
    assert {"a": 1, "b": 2} in seen


def test_a_lock_that_the_killed_caller_leaves_is_found_and_replayed(tmp_path: Path) -> None:
    recorder = interleave(target(ByItsFileTarget), schedules=72)
    finding = next(found.finding for found in recorder.findings if "B was killed" in found.finding.message)
    assert finding.code == "still-usable-after-the-fault"
    assert "TimeoutError: another process is at work" in finding.message
    with faults.install():
        violation, _ = play(read(write(finding, tmp_path, 0)).scenario, target(ByItsFileTarget), tmp_path / "again")
    assert violation is not None
    assert violation.message == finding.message


def test_the_process_is_dead_and_the_next_one_lives(tmp_path: Path) -> None:
    tested = target(ShelfTarget)
    tmp_path.joinpath("home").mkdir()
    with faults.install(), pair(tested, "processes", tmp_path / "home") as (_, second):
        assert isinstance(second, InProcess)
        setting = Setting(tmp_path / "home", tested.configurations[0], 1)
        second.open_to_be_killed(setting)
        second.start(ShelfTarget.calls[0], frozenset({2}))
        event = second.go()
        assert isinstance(event, Paused)
        # It has SQLite's lock, and its own.
        with tmp_path.joinpath("home", "boxes.lock").open("a") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        second.kill()
        with tmp_path.joinpath("home", "boxes.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert second.go() == Ended(0, PENDING)
        second.close()
        second.open(setting)
        second.start(ShelfTarget.calls[1], frozenset())
        assert alone(second).result.kind == "done"
        assert second.look() == {"a": 2}
        second.close()


def test_a_process_that_stands_in_a_call_does_not_go_on_alone(tmp_path: Path) -> None:
    tested = target(TriesAgainTarget)
    tmp_path.joinpath("home").mkdir()
    with faults.install():
        second = InProcess("B", tested)
        second.open(Setting(tmp_path / "home", tested.configurations[0], 1))
        second.start(ShelfTarget.calls[0], frozenset({2}))
        assert isinstance(second.go(), Paused)
        # As if this process had been killed.
        second._pipe.close()
        assert second._process.wait(60) == 1
        second.end()
    with contextlib.closing(sqlite3.connect(tmp_path / "home" / "boxes.db")) as db:
        assert db.execute("SELECT * FROM box").fetchall() == []


def test_a_process_that_waits_for_ever_does_not_outlive_the_search(tmp_path: Path) -> None:
    tested = target(ShelfTarget)
    with faults.install(), pair(tested, "processes", tmp_path / "home") as (_, second):
        assert isinstance(second, InProcess)
        tmp_path.joinpath("home").mkdir()
        second.open_to_be_killed(Setting(tmp_path / "home", tested.configurations[0], 1))
        second.start(Action("wait"), frozenset())
        assert second.go() == Waiting("blocked", "in the other process")
        assert second._child is not None
        child = os.pidfd_open(second._child)
    # It is readable once the process has ended.
    assert select.select([child], [], [], 60)[0]
    os.close(child)


def test_a_schedule_says_who_is_killed_and_where(tmp_path: Path) -> None:
    tested = target(ShelfTarget)
    step = Interleave(*ShelfTarget.calls, switch=1, back=2, killed=True)
    scenario = Scenario(tested.name, tested.configurations[0], (step,))
    with faults.install():
        executor = Executor(tested, scenario.configuration, tmp_path / "home")
        with contextlib.closing(executor):
            executor.do(msgspec.structs.replace(step, second=Action("names")))
            executor.do(step)
            words = hops_in_words(executor.hops, step)
    assert [caller for caller, *_ in words] == ["A", "B", "A"]
    assert words[1][2].endswith(", and is killed")
    assert str(step).endswith("[B] is killed, [A] continues (two processes)")


@pytest.mark.parametrize("wrong", [{"callers": "threads"}, {"back": 0}])
def test_a_kill_without_a_process_or_a_point_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    step = msgspec.structs.replace(Interleave(*ShelfTarget.calls, switch=1, back=2, killed=True), **wrong)
    scenario = Scenario("reference", Configuration("delete", "FULL"), (step,))
    path = write(Finding("stale-view", "", scenario, {}, "interleave"), tmp_path, 0)
    with pytest.raises(ReplayFileError, match="kills a caller that has no process of its own, or at no switch point"):
        read(path)
