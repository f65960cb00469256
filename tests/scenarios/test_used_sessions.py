"""Two callers, of which one has made a call before: what its session keeps in memory from then on."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from meeting_stores import Jobs, JobsTarget

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Callers, Interleave
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.reproduce.replay_file import read, write
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import

A, B, C = (Action("append", {"text": text}) for text in "abc")


class Log:
    """Lines by position, with their time. Sound: the next position is asked of the database."""

    def __init__(self, path: Path, environment: Environment) -> None:
        self.environment = environment
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self.db.execute("PRAGMA journal_mode = WAL").fetchall()
            self.db.execute("CREATE TABLE IF NOT EXISTS log (pos INTEGER PRIMARY KEY, text TEXT, at INTEGER)")
        except BaseException:
            self.db.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def append(self, text: str) -> int:
        with self.transaction():
            position = self.next()
            self.db.execute("INSERT OR REPLACE INTO log VALUES (?, ?, ?)", (position, text, self.environment.now_ms))
        self.remember(position)
        return position

    def next(self) -> int:
        return int(self.db.execute("SELECT coalesce(max(pos), 0) + 1 FROM log").fetchone()[0])

    def remember(self, position: int) -> None:
        """Nothing."""

    def close(self) -> None:
        self.db.close()


class Remembers(Log):
    """From its first line on it counts by itself, and overwrites what another process has written."""

    last = 0

    def next(self) -> int:
        return self.last + 1 if self.last else super().next()

    def remember(self, position: int) -> None:
        self.last = position


class InBlocks(Log):
    """Sound: each session takes ten positions at a time, which no other one gets, and returns none of them."""

    free: list[int]

    def append(self, text: str) -> int:
        return super().append(text) * 0

    def next(self) -> int:
        if not getattr(self, "free", None):
            self.free = [*range(((super().next() + 8) // 10) * 10 + 1, super().next() + 20)][:10]
        return self.free.pop(0)


class Owned(Log):
    """Sound: only the session that has taken a line may change it."""

    def __init__(self, path: Path, environment: Environment) -> None:
        super().__init__(path, environment)
        self.own: set[int] = set()

    def remember(self, position: int) -> None:
        self.own.add(position)

    def change(self, position: int) -> None:
        if position not in self.own:
            raise KeyError(f"line {position} is not ours")
        self.db.execute("UPDATE log SET text = text || '!' WHERE pos = ?", (position,))


class Follows(Log):
    """Sound: a session reads each line once."""

    read = 0

    def new(self) -> list[str]:
        lines = self.db.execute("SELECT pos, text FROM log WHERE pos > ? ORDER BY pos", (self.read,)).fetchall()
        self.read = lines[-1][0] if lines else self.read
        return [text for _, text in lines]


class LogTarget(SimpleTarget):
    title = "log"
    configurations = (Configuration("wal", "FULL"),)
    beat = Action("append", {"text": "heartbeat"})

    def __init__(self, kind: type[Log], callers: Callers | None, *calls: Action) -> None:
        super().__init__()
        self.kind, self.calls = kind, calls or (A, B, C)
        self.callers = None if callers is None else (callers,)

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Log:
        return self.kind(path, environment)

    def view(self, store: Log) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {str(pos): line for pos, *line in connection.execute("SELECT pos, text, at FROM log").fetchall()}


UNDECLARED = LogTarget(Remembers, None)
IN_THREADS, IN_PROCESSES = LogTarget(Remembers, "threads"), LogTarget(Remembers, "processes")
SOUND = LogTarget(Log, "processes")


def interleave(target: Target) -> Recorder:
    return campaign.run(target, Plan(("interleave",), Profile("test", 1, None, 0, 0, schedules=48), report=None))


def used(recorder: Recorder) -> list[Interleave]:
    steps = [found.finding.scenario.steps[-1] for found in recorder.findings]
    return [step for step in steps if isinstance(step, Interleave) and step.earlier is not None]


@pytest.mark.parametrize("name", ["IN_THREADS", "IN_PROCESSES"])
def test_a_position_that_a_session_remembers_is_met(name: str, tmp_path: Path) -> None:
    recorder = interleave(target := find_or_import(f"{__name__}:{name}"))
    finding = recorder.findings[0].finding
    (step,) = used(recorder)
    assert finding.code == "not-serializable"
    assert str(step).startswith(f"[A] {step.earlier}, [A] append(")
    with faults.install():
        violation, _ = play(read(write(finding, tmp_path, 0)).scenario, target, tmp_path / "again")
    assert violation is not None
    assert violation.message == finding.message


@pytest.mark.parametrize(
    ("kind", "third"), [(Log, C), (InBlocks, C), (Owned, Action("change", {"position": 1})), (Follows, Action("new"))]
)
def test_what_a_session_may_keep_for_itself_is_not_accused(kind: type[Log], third: Action) -> None:
    recorder = interleave(LogTarget(kind, "threads", A, B, third))
    assert not recorder.findings
    assert not recorder.vacuous


def test_a_sound_store_is_not_accused_in_two_processes() -> None:
    assert not interleave(find_or_import(f"{__name__}:SOUND")).findings


def test_a_store_that_declares_no_callers_is_taken_for_one_caller() -> None:
    recorder = interleave(find_or_import(f"{__name__}:UNDECLARED"))
    assert not recorder.findings
    notes = "".join(note for ended in recorder.ended for note in ended.notes)
    assert "make append and append, and append of the other between them, conflict with each other" in notes


class BelievesTheTotal(Jobs):
    """Wrong: it has a job if its connection has ever changed a row, which it has from its first claim on."""

    def claim(self, worker: str) -> str | None:
        name = self.waiting()
        self.db.execute("UPDATE job SET owner = ? WHERE id = ? AND owner IS NULL", (worker, name)).fetchall()
        return name if self.db.total_changes > 0 else None


class ThreeJobs(JobsTarget):
    callers = ("processes",)
    calls = (*(Action("add", {"name": name}) for name in "abc"), Action("claim", {"worker": "one"}))


class BelievesTheTotalTarget(ThreeJobs):
    kind = BelievesTheTotal


def test_a_claim_that_is_believed_for_an_earlier_one_is_found_and_a_sound_one_is_silent() -> None:
    plan = Plan(("interleave",), Profile("test", 1, 0, 0, 0, schedules=200), report=None)
    recorder = campaign.run(BelievesTheTotalTarget(), plan)
    assert [one.finding.code for one in recorder.findings] == ["handed-out-twice"]
    assert recorder.findings[0].finding.shows_again
    (step,) = (one for one in recorder.findings[0].finding.scenario.steps if isinstance(one, Interleave))
    assert step.earlier is not None
    assert not campaign.run(ThreeJobs(), plan).findings
