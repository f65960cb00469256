"""A target that isn't what it says is told so, before or instead of findings; what was found is never thrown away."""

import fnmatch
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_stores

from tornpage import Action, Configuration, SimpleTarget, faults
from tornpage.scenarios.execution.finding.trace import trace_of
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, Limit, Scenario
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run.campaign import Exit, run, verdict
from tornpage.scenarios.run.reproduce.artifacts import artifact_of
from tornpage.scenarios.targets.declaration import require_as_declared, what_is_wrong
from tornpage.scenarios.targets.registry import find_or_import

Command = Callable[..., Any]


class Careless(tiny_stores.TinySession):
    """Never sets a journal mode."""

    def set_up(self, configuration: Configuration) -> None:
        self.connection.execute("PRAGMA synchronous=FULL")


class InAnotherMode(tiny_stores.Tiny):
    """Says WAL, and has a rollback journal."""

    session = Careless
    configurations = (Configuration("wal", "FULL"),)


@pytest.mark.quality
@pytest.mark.parametrize("search", ["sweep", "crash", "fuzz"])
def test_a_file_in_another_journal_mode_than_its_label_is_told(search: str, command: Command) -> None:
    ran = command(search, "--target", "test_declared:InAnotherMode", "--quiet")
    assert ran.code == 2, ran
    assert "the file has a rollback journal, but the configuration is wal/FULL" in ran.err


class Two:
    """Writes first; what an opening that was cut short has left out, the next one makes."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS a (k TEXT PRIMARY KEY)")
            self.db.execute("CREATE TABLE IF NOT EXISTS b (k TEXT PRIMARY KEY)")
        except BaseException:
            self.db.close()
            raise

    def put(self, key: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO b VALUES (?)", (key,))

    def close(self) -> None:
        self.db.close()


class TwoTables(SimpleTarget):
    """Two tables, made one after the other."""

    configurations = (Configuration("delete", "EXTRA"),)
    calls = (Action("put", {"key": "a"}),)
    beat = Action("put", {"key": "beat"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Two:
        made = Two(path)
        made.db.execute("PRAGMA synchronous = EXTRA")
        return made

    def view(self, store: Two) -> dict[str, int]:
        return dict.fromkeys((key for (key,) in store.db.execute("SELECT k FROM b")), 1)

    def rows(self, connection: sqlite3.Connection) -> dict[str, int]:
        return dict.fromkeys((key for (key,) in connection.execute("SELECT k FROM b")), 1)


class MakesNothing(TwoTables):
    """Its make has no return."""

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Any:
        Two(path).close()


@pytest.mark.parametrize("search", ["sweep", "crash"])
def test_a_schema_that_is_half_made_is_made_by_the_next_opening(search: str, command: Command) -> None:
    ran = command(search, "--target", "test_declared:TwoTables", "--quiet")
    assert ran.code == 0, ran


def test_a_make_that_returns_nothing_is_told(command: Command) -> None:
    ran = command("sweep", "--target", "test_declared:MakesNothing", "--quiet")
    assert ran.code == 2
    assert "MakesNothing.make returned None" in ran.err


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"configurations": ("delete/FULL",)}, "configurations has 'delete/FULL'"),
        ({"configurations": ()}, "configurations is ()"),
        ({"unpromised": {"waits-for-a-short-lok": "x"}}, "'waits-for-a-short-lok', which is not a check; known: "),
        ({"unpromised": ["integrity"]}, "unpromised is ['integrity']"),
        ({"configurations": (Configuration("wall"),)}, "configurations has wall/FULL, which SQLite would ignore"),
        ({"depths": ("vsf",)}, "depths is ('vsf',); give a tuple such as ('vfs',)"),
        ({"depths": "vfs"}, "depths is 'vfs'; give a tuple"),
        ({"many_commits": "put"}, "many_commits is 'put'; give a tuple of names"),
        ({"workload": lambda _: (Action("put", ["a"]),)}, "the calls have Action('put', ['a']); give its name and"),
        ({"workload": lambda _: (Action("p\0t"),)}, "has the name 'p\\x00t'; give a name without NUL"),
        ({"heartbeat": lambda _: Action("put", {"": 1})}, "has the name ''; give a name"),
        ({"file": "a\0b.sqlite"}, "file is 'a\\x00b.sqlite'; give the database's name inside its directory"),
        ({"file": ""}, "file is ''; give the database's name"),
        ({"file": None}, "file is None; give the database's name"),
        ({"workload": lambda _: (Action("close"),)}, "the calls have close(), which is what tornpage itself does"),
        ({"workload": lambda _: (Action("close", {"ticket": "a"}),)}, ""),
        ({}, ""),
    ],
)
def test_what_is_declared_wrongly_is_named_with_what_is_allowed(parts: dict[str, Any], words: str) -> None:
    found = what_is_wrong(type("Wrong", (tiny_stores.Tiny,), parts)())
    assert words in found
    assert bool(found) is bool(words)


@pytest.mark.parametrize("view", [["a"], {("a", 1): 2}, None])
def test_a_view_of_another_shape_is_named(view: Any) -> None:
    with pytest.raises(TargetError, match="a view is a mapping from text"):
        require_as_declared(tiny_stores.Tiny(), Configuration("wal", "FULL"), Path("nowhere"), "", view)


class NoCalls(TwoTables):
    """Has nothing to try."""

    calls = ()


def test_a_target_without_calls_is_named_by_a_fuzz(command: Command) -> None:
    ran = command("fuzz", "--target", "test_declared:NoCalls", "--quiet", "--scenarios", 2)
    assert ran.code == 2, ran
    assert "`calls` is empty, so there is nothing to draw" in ran.err
    assert "Traceback" not in ran.err


class NoSuchStory(tiny_stores.RemembersFirst):
    """Wrong under faults, and its machine offers a call that fails without one."""

    def actions(self, view: Any) -> Any:
        from hypothesis import strategies

        return strategies.just(Action("fly"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_that_can_not_go_on_throws_nothing_away(jobs: int) -> None:
    small = Profile("test", 1, 2, scenarios=5, steps=3)
    target = find_or_import("test_declared:NoSuchStory")
    recorder = run(target, Plan(("sweep", "fuzz"), small, report=None, jobs=jobs))
    assert verdict(recorder) is Exit.FINDING
    assert {one.finding.code for one in recorder.findings} == {"memory-equals-disk"}
    (vacuous,) = recorder.vacuous
    assert vacuous.search == "fuzz"
    assert vacuous.reason.startswith("it could not continue")


def test_a_scenario_with_an_allocation_that_fails_is_told_and_kept_as_it_is_played(
    shim: faults.Shim, tmp_path: Path
) -> None:
    steps = (Call(Action("put", {"key": "a", "value": 1})), Limit("allocation", 1, sticky=True))
    # A small row may be written from memory that SQLite has already; a large one needs more in every version.
    large = Call(Action("put", {"key": "b", "value": "x" * 200_000}))
    scenario = Scenario("tiny", Configuration("wal", "FULL"), (*steps, large))
    told = trace_of(scenario, tiny_stores.Swallows(), tmp_path / "told")
    assert told.check == "acknowledged-is-durable"
    assert not any("AllocatorUnavailableError" in step.outcome for step in told.moments)
    assert artifact_of(scenario, tiny_stores.Swallows(), tmp_path / "kept").after


def test_a_key_that_holds_control_characters_reaches_nobody_s_terminal() -> None:
    violation = Violation("integrity", "\n::error::pwned \x1b[2J")
    message = Finding.of(violation, Scenario("tiny", Configuration(), ()), "sweep").message
    assert message.isprintable()
    assert "\\n::error::pwned \\x1b[2J" in message


class Image:
    """A database in memory, whose image is saved as a plain file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        if path.exists():
            self.db.deserialize(path.read_bytes())
        else:
            self.db.execute("CREATE TABLE names (name TEXT PRIMARY KEY)")

    def put(self, name: str) -> None:
        before = self.db.serialize()
        self.db.execute("INSERT OR IGNORE INTO names VALUES (?)", (name,))
        try:
            new = self.path.with_name("new")
            with new.open("wb") as file:
                file.write(self.db.serialize())
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            self.db.deserialize(self.path.read_bytes() if self.path.exists() else before)
            raise

    def close(self) -> None:
        self.db.close()


class Images(SimpleTarget):
    title = "an image of a database"
    file = "image"
    configurations = (Configuration("file", "FULL"),)
    calls = (Action("put", {"name": "a"}), Action("put", {"name": "b"}))
    beat = Action("put", {"name": "heartbeat"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Image:
        return Image(path)

    def view(self, store: Image) -> dict[str, int]:
        return {name: 1 for (name,) in store.db.execute("SELECT name FROM names")}

    def files_view(self, directory: Path) -> dict[str, int]:
        path = directory / "image"
        if not path.exists():
            return {}
        store = Image(path)
        try:
            return self.view(store)
        finally:
            store.close()


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "serialize"), reason="this SQLite has no images")
def test_a_plain_file_that_is_the_image_of_a_database_was_written_by_no_other_sqlite(command: Command) -> None:
    ran = command("crash", "--target", "test_declared:Images", "--quiet", "--states", "20")
    assert ran.code == 0, ran


class CallsAsWorkload(TwoTables):
    workload = TwoTables.calls  # type: ignore[assignment]


class RowsAsStatement(TwoTables):
    rows = "SELECT k FROM b"  # type: ignore[assignment]


class Unreadable(TwoTables):
    @property
    def calls(self) -> tuple[Action, ...]:  # type: ignore[override]
        raise LookupError("no calls yet")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (CallsAsWorkload, "workload is (*; it is a method: def workload(self); the calls to try are `calls`"),
        (RowsAsStatement, "rows is 'SELECT k FROM b'; it is a method: def rows(self, connection)"),
        (Unreadable, "its declarations can't be read: LookupError: no calls yet"),
    ],
)
def test_a_member_of_the_wrong_kind_is_named_before_any_search(target: type[SimpleTarget], said: str) -> None:
    """The first two ended in a traceback of the harness, or in one of the user's without a name."""
    assert fnmatch.fnmatchcase(what_is_wrong(target()), said)


def test_an_image_of_a_database_that_the_code_writes_itself_is_a_plain_file(shim: faults.Shim, home: Path) -> None:
    with sqlite3.connect(":memory:") as memory:
        memory.execute("CREATE TABLE t (key)")
        (home / "tiny.db").write_bytes(memory.serialize())
    memory.close()
    with pytest.raises(TargetError, match=r"not watched.* it is a store of plain files \[docs/your-own-store.md"):
        require_as_declared(tiny_stores.Tiny(), Configuration("wal", "FULL"), home, "", {})
