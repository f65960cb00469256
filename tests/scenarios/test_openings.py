"""Two processes that open the store at the same time, or while the other one makes a call."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Callers, Interleave, Scenario
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.estimate import estimated
from tornpage.scenarios.run.reproduce.replay_file import ReplayFileError, read, write
from tornpage.scenarios.search.interleave.openings import no_files
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import


class Jobs:
    """Jobs. Sound: what is missing is made only if it is, in one statement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = self.connected()

    def connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            self.make(db)
        except BaseException:
            db.close()
            raise
        return db

    def make(self, db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY)")

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO job (id) VALUES (?)", (name,))

    def view(self) -> dict[str, Any]:
        return rows_of(self.db)

    def close(self) -> None:
        self.db.close()


class LooksFirst(Jobs):
    """The table is made if a look has not found it."""

    def make(self, db: sqlite3.Connection) -> None:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'job'").fetchall():
            db.execute("CREATE TABLE job (id TEXT PRIMARY KEY)")


class LooksInside(LooksFirst):
    """Sound: looked for under the lock."""

    def make(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        super().make(db)
        db.execute("COMMIT")


class Version(Jobs):
    """The first row is inserted if a look has not found it: a broken constraint is no answer of an opening."""

    def make(self, db: sqlite3.Connection) -> None:
        super().make(db)
        db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value)")
        if not db.execute("SELECT 1 FROM meta WHERE key = 'version'").fetchall():
            db.execute("INSERT INTO meta VALUES ('version', 1)")


class Directory(Jobs):
    """A directory beside the file is made if it is not there."""

    def make(self, db: sqlite3.Connection) -> None:
        beside = self.path.with_suffix(".d")
        if not beside.exists():
            beside.mkdir()
        super().make(db)


class FindsIt(Directory):
    """Sound: it may be there."""

    def make(self, db: sqlite3.Connection) -> None:
        self.path.with_suffix(".d").mkdir(exist_ok=True)
        Jobs.make(self, db)


class Later(LooksFirst):
    """The file is made by the first call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None

    @property
    def db(self) -> sqlite3.Connection:  # type: ignore[override]
        if self._db is None:
            self._db = self.connected()
        return self._db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()


class Once(Later):
    """Sound: the file is made by the first call, which can be made once, by either caller."""

    def make(self, db: sqlite3.Connection) -> None:
        Jobs.make(self, db)

    def add(self, name: str) -> None:
        if name == "a":
            self.db.execute("ALTER TABLE job ADD COLUMN state TEXT")
        super().add(name)


class Cleans(Jobs):
    """At its opening it rewrites all rows from what it has read before, and with that undoes what came between."""

    def make(self, db: sqlite3.Connection) -> None:
        super().make(db)
        rows = db.execute("SELECT id FROM job").fetchall()
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM job")
        db.executemany("INSERT INTO job VALUES (?)", rows)
        db.execute("COMMIT")


def rows_of(connection: sqlite3.Connection) -> dict[str, Any]:
    return {name: True for (name,) in connection.execute("SELECT id FROM job").fetchall()}


class JobsTarget(SimpleTarget):
    title = "jobs"
    configurations = (Configuration("wal", "FULL"),)
    calls = (Action("add", {"name": "a"}),)
    beat = Action("add", {"name": "heartbeat"})

    def __init__(self, kind: type[Jobs], callers: tuple[Callers, ...] | None = ("processes",)) -> None:
        super().__init__()
        self.kind, self.callers = kind, callers

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Jobs:
        return self.kind(path)

    def view(self, store: Jobs) -> dict[str, Any]:
        return store.view()

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return rows_of(connection)


LOOKS_FIRST, LOOKS_INSIDE, VERSION = JobsTarget(LooksFirst), JobsTarget(LooksInside), JobsTarget(Version)
DIRECTORY, FINDS_IT, LATER, CLEANS = JobsTarget(Directory), JobsTarget(FindsIt), JobsTarget(Later), JobsTarget(Cleans)
SOUND, ONCE, UNDECLARED = JobsTarget(Jobs), JobsTarget(Once), JobsTarget(LooksFirst, None)


def searched(name: str, schedules: int | None = 24) -> Recorder:
    profile = Profile("test", 1, None, 0, 0, schedules=schedules)
    target = find_or_import(f"{__name__}:{name}")
    return campaign.run(target, Plan(("interleave",), profile, report=None, preemptions=1))


def finding_of(recorder: Recorder) -> tuple[Finding, Interleave]:
    finding = recorder.findings[0].finding
    step = finding.scenario.steps[-1]
    assert isinstance(step, Interleave)
    return finding, step


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("LOOKS_FIRST", "OperationalError: table job already exists"),
        ("VERSION", "IntegrityError: UNIQUE constraint failed: meta.key"),
        ("DIRECTORY", "FileExistsError"),
        ("LATER", "OperationalError: table job already exists"),
    ],
)
def test_one_of_two_first_starts_fails(name: str, says: str) -> None:
    finding, step = finding_of(searched(name))
    assert (finding.code, step.fresh, len(finding.scenario.steps)) == ("opens-together", True, 1)
    assert says in finding.message
    assert str(step).startswith("in an empty directory: [A] ")


def test_a_call_during_an_opening_is_lost() -> None:
    finding, step = finding_of(searched("CLEANS", None))
    assert (finding.code, step.fresh) == ("not-serializable", False)
    assert str(step).startswith("[A] open() up to switch point ")


@pytest.mark.parametrize("name", ["SOUND", "LOOKS_INSIDE", "FINDS_IT", "ONCE"])
def test_a_sound_opening_is_silent(name: str) -> None:
    recorder = searched(name, None)
    assert not recorder.findings
    assert not recorder.vacuous


def test_a_store_that_declares_no_callers_gets_a_note() -> None:
    recorder = searched("UNDECLARED")
    assert not recorder.findings
    notes = [note for ended in recorder.ended for note in ended.notes if note.startswith("not judged: ")]
    assert ["opens it, too, fails a check" in note for note in notes] == [True]


def test_a_finding_of_an_opening_is_replayed(tmp_path: Path) -> None:
    finding, _ = finding_of(searched("LOOKS_FIRST"))
    with faults.install():
        again, _ = play(read(write(finding, tmp_path, 0)).scenario, LOOKS_FIRST, tmp_path / "again")
    assert again is not None
    assert again.message == finding.message


@pytest.mark.parametrize("wrong", [{"callers": "threads"}, {"earlier": OPEN}])
def test_an_opening_without_a_process_or_of_an_open_store_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    step = msgspec.structs.replace(Interleave(OPEN, OPEN, switch=1), **wrong)
    scenario = Scenario("reference", Configuration("delete", "FULL"), (step,))
    path = write(Finding("opens-together", "", scenario, {}, "interleave"), tmp_path, 0)
    with pytest.raises(ReplayFileError, match="open the store that has no process of its own, or has it open"):
        read(path)


def test_callers_of_an_empty_directory_have_the_clock_of_the_target() -> None:
    target = JobsTarget(Jobs)
    target.clock_step_ms = 1_000
    assert no_files(target).clock.step_ms == 1_000


def test_the_estimate_counts_openings() -> None:
    plan = Plan(("interleave",), Profile("test", 1, None, 0, 0), report=None, preemptions=1)
    (number,) = re.findall(
        r"^exhaustive: about (\d+) schedules", estimated(find_or_import(f"{__name__}:LOOKS_INSIDE"), plan)
    )
    assert int(number) == searched("LOOKS_INSIDE", None).count("schedules")
