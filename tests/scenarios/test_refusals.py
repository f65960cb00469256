"""A store that says no in a word of its own is understood: silence for a sound one, a finding where the no is wrong."""

import contextlib
import os
import queue
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies

from tornpage import Action, Configuration, SimpleTarget, View, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.judging.refusals import says_no, says_there_is_none
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run.campaign import Exit, run, verdict
from tornpage.scenarios.search.recorder import Recorder

# A store whose opening fails leaves its connection to the garbage collector: from Python 3.13 on, that is a warning.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning")

# Python's `with connection:` does not roll back where there is no memory for COMMIT.
MEMORY = ("memory-equals-disk", "still-usable-after-the-fault")


class Notes:
    """A plain INSERT, and KeyError for what is not there."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")

    def add(self, number: int, text: str) -> None:
        with self.db:
            self.db.execute("INSERT INTO notes VALUES (?, ?)", (number, text))

    def remove(self, number: int) -> None:
        with self.db:
            if not self.db.execute("DELETE FROM notes WHERE id = ?", (number,)).rowcount:
                raise KeyError(number)

    def close(self) -> None:
        self.db.close()


class Target(SimpleTarget):
    configurations = (Configuration("delete", "FULL"),)
    calls = (
        Action("add", {"number": 1, "text": "a"}),
        Action("add", {"number": 2, "text": "b"}),
        Action("remove", {"number": 1}),
    )
    beat = Action("add", {"number": 999, "text": "beat"})
    kind: type[Notes] = Notes
    unpromised: Mapping[str, Any] = {code: {"limits": "with"} for code in MEMORY}

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Notes:
        return self.kind(path)

    def view(self, store: Notes) -> dict[str, str]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, str]:
        return {str(number): text for number, text in connection.execute("SELECT id, text FROM notes")}


def searched(target: SimpleTarget, *searches: str, scenarios: int = 20) -> Recorder:
    profile = Profile("test", 1, 8, scenarios, 12, crash_states=10, every_operation=True)
    return run(target, Plan(searches, profile, report=None))


def test_a_sound_store_that_says_no_is_silent() -> None:
    recorder = searched(Target(), "sweep", "crash", "fuzz")
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert verdict(recorder) is Exit.HOLDS


class StaysBroken(Notes):
    """Says no to everything after a write that failed, until it is opened again."""

    broken = False

    def add(self, number: int, text: str) -> None:
        if self.broken:
            raise ValueError("not now")
        try:
            super().add(number, text)
        except sqlite3.OperationalError:
            self.broken = True
            raise


class NotSeenNotThere(Notes):
    """Takes a row that could not be read for one that is missing."""

    def remove(self, number: int) -> None:
        found = None
        with contextlib.suppress(sqlite3.Error):
            found = self.db.execute("SELECT 1 FROM notes WHERE id = ?", (number,)).fetchone()
        if found is None:
            raise KeyError(number)
        super().remove(number)


class TakenFirst(Notes):
    """Notes that an id is taken before the row is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.taken = {number for (number,) in self.db.execute("SELECT id FROM notes")}

    def add(self, number: int, text: str) -> None:
        if number in self.taken:
            raise ValueError(f"{number} is taken")
        self.taken.add(number)
        super().add(number, text)

    def remove(self, number: int) -> None:
        super().remove(number)
        self.taken.discard(number)


@pytest.mark.quality
@pytest.mark.parametrize(
    ("kind", "search", "check"),
    [
        (StaysBroken, "sweep", "still-usable-after-the-fault"),
        (NotSeenNotThere, "sweep", "error-is-not-hidden"),
        pytest.param(TakenFirst, "fuzz", "still-usable-after-the-fault", marks=pytest.mark.slow),
    ],
)
def test_a_no_that_only_a_fault_has_caused_is_a_finding(kind: type[Notes], search: str, check: str) -> None:
    target = Target()
    target.kind = kind
    recorder = searched(target, search, scenarios=200)
    assert check in {found.finding.code for found in recorder.findings}


class TakesApart(Notes):
    """Takes the row apart, also where there is none."""

    def text(self, number: int) -> str:
        return str(self.db.execute("SELECT text FROM notes WHERE id = ?", (number,)).fetchone()[0])


class TakesApartTarget(Target):
    calls = (*Target.calls[:2], Action("text", {"number": 2}), *Target.calls[2:])
    kind = TakesApart


def test_a_call_of_the_workload_that_fails_by_a_mistake_in_some_states_is_left_out_there() -> None:
    recorder = searched(TakesApartTarget(), "fuzz")
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS
    (ended,) = recorder.ended
    assert ended.counts["out_of_place"]
    (note,) = [one for one in ended.notes if one.startswith("left out where they fail by a mistake")]
    assert note.endswith(f"{ended.counts['out_of_place']} calls of text")


class Misnamed(Notes):
    """A mistake in the code of a call that the workload does not make."""

    opened = 0

    def __init__(self, path: Path) -> None:
        type(self).opened += 1
        super().__init__(path)

    def rename(self, number: int) -> None:
        raise TypeError(number)


class MisnamedTarget(Target):
    kind = Misnamed

    def actions(self, view: View) -> Any:
        return strategies.sampled_from((*self.calls, Action("rename", {"number": 1})))


def test_a_mistake_in_the_code_is_no_refusal() -> None:
    with pytest.raises(TargetError, match=r"rename.* fails without any fault"):
        searched(MisnamedTarget(), "fuzz")
    # It ended there: to look for a shorter scenario would take some thousand openings, and say no more.
    assert 0 < Misnamed.opened < 300


class ForgetsFirst(TakesApart):
    """Forgets a text before it is removed, so that a removal that fails leaves a text that is not found."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.texts = dict(self.db.execute("SELECT id, text FROM notes"))

    def add(self, number: int, text: str) -> None:
        super().add(number, text)
        self.texts[number] = text

    def text(self, number: int) -> str:
        return self.texts.get(number).upper()  # type: ignore[union-attr]

    def remove(self, number: int) -> None:
        self.texts.pop(number, None)
        super().remove(number)


@pytest.mark.quality
def test_a_mistake_that_only_a_fault_has_caused_is_a_finding() -> None:
    target = TakesApartTarget()
    target.kind = ForgetsFirst
    read, remove = Call(Action("text", {"number": 1})), Call(Action("remove", {"number": 1}))
    steps = (Call(target.calls[0]), Arm("write@1=FULL", "vfs"), remove, Clear(), read)
    with faults.install(), tempfile.TemporaryDirectory() as home:
        violation, _ = play(Scenario(target.name, target.configurations[0], steps), target, Path(home))
    assert violation is not None
    assert violation.code == "still-usable-after-the-fault"
    assert "AttributeError" in violation.message


class JobNotFound(Exception):  # noqa: N818 - as stores name theirs
    pass


class StoreBusy(Exception):  # noqa: N818
    pass


class SeatLocked(Exception):  # noqa: N818
    pass


def wrapped(cause: BaseException) -> Exception:
    error = JobNotFound("no such job")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_no"),
    [
        (KeyError("a"), True),
        (ValueError("taken"), True),
        (JobNotFound("no such job"), True),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), True),
        (wrapped(sqlite3.IntegrityError("UNIQUE constraint failed")), True),
        (wrapped(sqlite3.OperationalError("database is locked")), False),
        (wrapped(OSError("no space")), False),
        (sqlite3.OperationalError("disk I/O error"), False),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), False),
        (StoreBusy("try again"), False),
        (queue.Full(), True),
        (SeatLocked("taken"), True),
        (TypeError("a"), False),
        (RuntimeError("bad state"), False),
        (MemoryError(), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
    ids=repr,
)
def test_which_exceptions_are_a_no(error: BaseException | None, is_no: bool) -> None:
    assert says_no(error) is is_no


class MadeAnew(Notes):
    """Makes its exception when it is opened, as models of peewee that are bound to one database do."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.Missing = type("Missing", (Exception,), {})

    def remove(self, number: int) -> None:
        try:
            super().remove(number)
        except KeyError as error:
            raise self.Missing(number) from error


class MadeAnewTarget(Target):
    kind = MadeAnew


def test_a_refusal_by_a_class_that_is_made_at_each_opening_is_one() -> None:
    recorder = run(MadeAnewTarget(), Plan(("fuzz",), Profile("test", 1, None, 6, 12), report=None))
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("steps")


class Texts:
    """A file for each text, written as a draft; the system says that there is none, or that there is one."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent / "texts"
        self.folder.mkdir(exist_ok=True)
        self.sync(path.parent)

    def sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def put(self, name: str, text: str) -> None:
        draft = self.folder / ".draft"
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / name)
        self.sync(self.folder)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()
        self.sync(self.folder)


class TextsTarget(SimpleTarget):
    configurations = (Configuration("file", "FULL"),)
    file = "unused"
    calls = (
        Action("put", {"name": "a", "text": "one"}),
        Action("put", {"name": "b", "text": "two"}),
        Action("remove", {"name": "a"}),
    )
    beat = Action("put", {"name": "beat", "text": "it"})
    kind: type[Texts] = Texts

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Texts:
        return self.kind(path)

    def view(self, store: Texts) -> dict[str, str]:
        return self.files_view(store.folder.parent)

    def files_view(self, directory: Path) -> dict[str, str]:
        found = (directory / "texts").glob("[a-z]*")
        return {f"text/{path.name}": path.read_text() for path in found}


def test_a_store_of_plain_files_may_let_the_system_say_that_there_is_none() -> None:
    recorder = searched(TextsTarget(), "fuzz", scenarios=20)
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS


class NeedsItsFolder(Texts):
    """Makes its folder in the first life only: what is lost with it makes every later call fail."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent / "texts"
        if not (path.parent / "made").exists():
            super().__init__(path)
            (path.parent / "made").touch()

    def remove(self, name: str) -> None:
        super().remove(name)
        if not [*self.folder.iterdir()]:
            self.folder.rmdir()


class NeedsItsFolderTarget(TextsTarget):
    kind = NeedsItsFolder


def test_the_beat_is_never_refused_by_the_system(tmp_path: Path) -> None:
    target = NeedsItsFolderTarget()
    put, _, remove = map(Call, target.calls)
    scenario = Scenario(target.name, target.configurations[0], (put, remove, Restart(crash=True), Call(target.beat)))
    with faults.install():
        violation, _ = play(scenario, target, tmp_path)
    assert violation is not None
    assert violation.code == "still-usable-after-the-fault"


@pytest.mark.parametrize(
    ("error", "view", "is_no"),
    [
        (FileNotFoundError(2, "none"), {"text/b": 1}, True),
        # What is shown and has no file has lost it.
        (FileNotFoundError(2, "none"), {"text/a": 1}, False),
        (FileExistsError(17, "there"), {"a": 1}, True),
        (FileExistsError(17, "there"), {"text/b": 1}, False),
        (PermissionError(13, "denied"), {}, False),
        (None, {}, False),
    ],
)
def test_what_the_system_says_is_a_no_where_the_view_says_the_same(
    error: BaseException | None, view: View, is_no: bool
) -> None:
    assert says_there_is_none(error, Action("remove", {"name": "a"}), view) is is_no
    assert not says_there_is_none(error, Action("remove", {"number": 1}), view)
