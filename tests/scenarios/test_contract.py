"""The contract of view, rows and beat: what breaks it is named first; a store's own mistakes are findings."""

import inspect
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import others_stores
import plain_stores
import pytest
import tiny_stores
from plain_stores import SoundByBoundNames

from tornpage import faults
from tornpage.scenarios.execution.call_timeout import patience
from tornpage.scenarios.execution.preflight import contract, rules
from tornpage.scenarios.execution.preflight.contract import require_contract
from tornpage.scenarios.model import simple_target
from tornpage.scenarios.model.target import Action, Configuration, SetUpError, TargetError
from tornpage.scenarios.run.campaign import Exit, verdict
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import SHIPPED, find

DOCUMENT = Path(__file__).parents[2] / "docs" / "contract.md"
Search = Callable[..., Recorder]
# Some stores here leave connections open: from Python 3.13 on, that is a warning when they go.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


def rehearsed(target: object, home: Path) -> None:
    made = target() if isinstance(target, type) else target
    with faults.install() as shim, shim.deterministic():
        require_contract(made, made.configurations[0], home)  # type: ignore[attr-defined]


class Outside(others_stores.ShelfTarget):
    file = "../shelf.sqlite"


class ShowsNaN(others_stores.ShelfTarget):
    def rows(self, connection: sqlite3.Connection) -> Any:
        return {key: [float("nan")] for (key,) in connection.execute("SELECT key FROM item")}

    def view(self, store: Any) -> Any:
        return self.rows(store.db)


class ShowsObjects(ShowsNaN):
    def rows(self, connection: sqlite3.Connection) -> Any:
        return {key: RowOfItsOwn() for (key,) in connection.execute("SELECT key FROM item")}


class RowOfItsOwn:
    """Equal to nothing but itself."""


class NoStatements(others_stores.ShelfTarget):
    """Its connections are its own, so no fault of a statement would reach it."""

    depths = ("vfs", "statement")


class HidesForAWhile(others_stores.ShelfTarget):
    """Its view leaves out what is hidden, and `rows` doesn't; after all calls nothing is."""

    calls = (Action("put", {"key": "a"}), Action("hide", {"key": "a"}), Action("put", {"key": "a"}))

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def hide(self, key: str) -> None:
            self.put(key, 0)

    def view(self, store: Any) -> Any:
        return {key: value for key, value in store.all().items() if value}


class SoundHidesForAWhile(HidesForAWhile):
    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT key, value FROM item WHERE value"))


MORE = {
    HidesForAWhile: "view-and-rows-are-one-mapping",
    Outside: "the-store-uses-its-path",
    ShowsNaN: "view-and-rows-are-one-mapping",
    ShowsObjects: "view-and-rows-are-one-mapping",
    NoStatements: "declarations",
}


@pytest.mark.parametrize(("target", "rule"), {**others_stores.SET_UP_ERRORS, **MORE}.items())
def test_a_rule_that_is_broken_is_named(target: type, rule: str, home: Path) -> None:
    with pytest.raises(SetUpError, match=r"\[docs/contract\.md#") as told:
        rehearsed(target, home)
    assert told.value.rule == rule
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "target",
    [
        others_stores.Sound,
        others_stores.SoundPerCall,
        others_stores.SoundBeatTwoKeys,
        others_stores.SoundBeatHasItsOwnValues,
        others_stores.SoundCountedLooks,
        others_stores.SoundCollation,
        others_stores.SoundReport,
        others_stores.SoundRefusal,
        others_stores.SoundSqlClock,
        others_stores.SoundNumbers,
        SoundHidesForAWhile,
        tiny_stores.Tiny,
    ],
)
def test_a_sound_target_keeps_the_contract(target: type, home: Path) -> None:
    rehearsed(target, home)


@pytest.mark.parametrize(
    "name", ["reference", "json-file", "diskcache", "huey", "litequeue", "sqlitedict", "apscheduler"]
)
def test_the_targets_that_ship_keep_it(name: str, home: Path) -> None:
    assert name in SHIPPED
    pytest.importorskip({"reference": "tornpage", "json-file": "tornpage"}.get(name, name))
    rehearsed(find(name), home)


class ForgetsAndBeginsWithARow(others_stores.BugNeverCommits):
    """It commits nothing, and opening writes a row."""

    def view(self, store: Any) -> Any:
        return super().view(store) | {"first": 1}

    def rows(self, connection: sqlite3.Connection) -> Any:
        return super().rows(connection) | {"first": 1}


def test_what_opening_writes_is_named_where_the_store_fails_as_well(home: Path) -> None:
    with pytest.raises(SetUpError, match="an-empty-store-shows-an-empty-view"):
        rehearsed(ForgetsAndBeginsWithARow, home)


@pytest.mark.parametrize(
    "target",
    [
        others_stores.BugNeverCommits,
        others_stores.BugEmptiesAtStart,
        others_stores.BugForgetsToForget,
        others_stores.BugRemembersAnotherType,
    ],
)
def test_what_the_store_does_wrong_without_a_fault_is_a_finding(target: type, home: Path, search: Search) -> None:
    rehearsed(target, home)
    recorder = search(target(), points=1)
    assert verdict(recorder) is Exit.FINDING
    assert not recorder.findings[0].finding.scenario.faults


class WritesLater(others_stores.ShelfTarget):
    """A repeated put is in the file once another shelf is open, as if a slow thread had written it by then."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def set_up(self) -> None:
            super().set_up()
            self.is_late, self.is_over = False, threading.Event()
            self.writer = threading.Thread(target=self.is_over.wait, name="writer", daemon=True)
            self.writer.start()

        def put(self, key: str, value: object = 1) -> None:
            self.is_late = key in super().all()
            super().put(key, value)

        def all(self) -> dict[str, Any]:
            if self.is_late and any(Path(self.path).parents[1].glob("second/*")):
                super().put("late")
            return super().all()

        def close(self) -> None:
            self.is_over.set()
            self.writer.join()
            super().close()


def test_a_thread_that_writes_after_the_call_is_named_as_a_cause(home: Path) -> None:
    with pytest.raises(SetUpError, match=r"; or a thread of the store \(writer.*\) writes after the call has returned"):
        rehearsed(WritesLater, home)


def test_no_thread_is_named_where_there_is_none(home: Path) -> None:
    with pytest.raises(SetUpError) as told:
        rehearsed(others_stores.OneMemoryForAll, home)
    assert "a thread of the store" not in str(told.value)


def test_nothing_is_searched_where_a_rule_is_broken(search: Search) -> None:
    with pytest.raises(SetUpError, match="one key for each thing"):
        search(others_stores.CountsThings(), points=1)


def test_what_a_store_remembers_in_secret_is_named_by_the_sweep(search: Search) -> None:
    with pytest.raises(TargetError, match="the-view-shows-what-later-views-depend-on"):
        search(others_stores.RemembersInSecret(), points=1)


def test_the_missing_table_is_named_with_those_that_are_there(home: Path) -> None:
    with pytest.raises(SetUpError, match="no such table: items, after all calls; the file has item"):
        rehearsed(others_stores.MisspeltTable, home)


class NamesItsPlace(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def put(self, key: str, value: object = 1) -> None:
            super().put(key, f"{Path(self.path).parent / key}")


@pytest.mark.parametrize(
    ("target", "advice"),
    [(NamesItsPlace, "relative to it"), (others_stores.TakesANumber, "`deterministic = True`")],
)
def test_what_makes_the_second_state_another_one_is_told(target: type, advice: str, home: Path) -> None:
    with pytest.raises(SetUpError, match="lead to another state in another directory.*" + advice):
        rehearsed(target, home)


def test_each_rule_is_a_section_of_the_document() -> None:
    sections = set(re.findall(r"^## ([a-z-]+)$", DOCUMENT.read_text(), re.MULTILINE))
    source = "".join(map(inspect.getsource, (contract, rules, simple_target)))
    named = set(re.findall(r'"([a-z]+(?:-[a-z]+){2,}|declarations)"', source))
    assert set(others_stores.SET_UP_ERRORS.values()) <= named == sections


def test_the_command_says_it_in_one_line_and_ends_with_2(command: Callable[..., object]) -> None:
    ran = command("check", "--quiet", "--target", "others_stores:MisspeltTable")
    assert ran.code == Exit.NOT_TESTED  # type: ignore[attr-defined]
    assert len(ran.err.strip().splitlines()) == 1  # type: ignore[attr-defined]
    assert "docs/contract.md#rows-read-what-the-store-writes" in ran.err  # type: ignore[attr-defined]


class HangsTwice(others_stores.ShelfTarget):
    """A store that never returns from a call, and afterwards not from its `close`, either."""

    class kind(others_stores.Shelf):  # noqa: N801
        def wait(self) -> None:
            self.waits = True
            threading.Event().wait()

        def close(self) -> None:
            super().close()
            if hasattr(self, "waits"):
                threading.Event().wait()

    calls = (Action("wait"),)


def test_the_call_that_never_returned_is_named_and_not_the_close_after_it(tmp_path: Path) -> None:
    with patience(0.3), pytest.raises(TargetError, match=r"wait\(\) did not return"):
        rehearsed(HangsTwice, tmp_path)


def test_a_store_of_plain_files_that_declares_a_journal_of_sqlite_s_is_told_what_to_declare(tmp_path: Path) -> None:
    class Forgets(SoundByBoundNames):
        configurations = (Configuration("wal", "FULL"),)

    with faults.install(), pytest.raises(SetUpError, match=r"store\.json is no database, .* declares configurations ="):
        require_contract(Forgets(), Forgets.configurations[0], tmp_path)


def test_a_store_of_plain_files_that_takes_its_path_for_its_directory_is_told_what_its_reader_sees(
    tmp_path: Path,
) -> None:
    class Elsewhere(SoundByBoundNames):
        def make(self, path: Path, *others: Any) -> Any:
            path.mkdir(exist_ok=True)
            return super().make(path / "notes.json", *others)

        def files_view(self, directory: Path) -> dict[str, Any]:
            return plain_stores.Store.read(directory / "notes.json")

    target = Elsewhere()
    with faults.install(), pytest.raises(SetUpError, match="`files_view` finds nothing in the file"):
        require_contract(target, target.configurations[0], tmp_path)


def test_what_a_module_keeps_by_the_path_of_a_store_is_named(tmp_path: Path) -> None:
    kept: dict[Path, dict[str, Any]] = {}

    class Remembers(SoundByBoundNames):
        def make(self, path: Path, *others: Any) -> Any:
            store = super().make(path, *others)
            store.data = kept.setdefault(path, store.data)
            return store

    class Forgets(Remembers):
        def make(self, path: Path, *others: Any) -> Any:
            store = super().make(path, *others)
            store.close = lambda: kept.pop(path, None)
            return store

    with faults.install():
        require_contract(Forgets(), Forgets.configurations[0], tmp_path / "forgets")
        with pytest.raises(SetUpError, match=r"it has kept that in the module or in a class, by its path.*#each-direc"):
            require_contract(Remembers(), Remembers.configurations[0], tmp_path / "remembers")


class Unsaved(others_stores.ShelfTarget):
    """Its `note` is never committed: that is for a search to find, and ends the rehearsal."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def note(self, key: str) -> None:
            self.db.execute("BEGIN")
            self.put(key)

        def put_two(self, key: str) -> None:
            self.put(key)
            self.put(f"{key}/2")

    calls = (*others_stores.ShelfTarget.calls, Action("note", {"key": "n"}))


class UnsavedAndTwoKeys(Unsaved):
    beat = Action("put_two", {"key": "heartbeat"})


def test_a_beat_that_adds_two_keys_is_named_also_where_the_store_itself_fails(home: Path) -> None:
    rehearsed(Unsaved, home / "one")
    with pytest.raises(SetUpError, match=r"in a new store the beat .* adds 2 keys: "):
        rehearsed(UnsavedAndTwoKeys, home / "two")


class FirstPutAlsoMakesARoot(others_stores.ShelfTarget):
    """The first change of a new store adds a root beside its own key."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def put(self, key: str, value: object = 1) -> None:
            super().put("root")
            super().put(key, value)


class HasARoot(FirstPutAlsoMakesARoot):
    """The same, declared."""

    beat_touches = ("root",)


def test_a_beat_that_adds_more_to_a_new_store_is_named(home: Path) -> None:
    with pytest.raises(SetUpError, match=r"in a new store the beat .* adds 2 keys: 'root', .*let `make` make at once"):
        rehearsed(FirstPutAlsoMakesARoot, home / "one")
    rehearsed(HasARoot, home / "two")


class ShowsWhatIsGone(others_stores.ShelfTarget):
    """Its view reads a file that a call has removed."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def remove(self, key: str) -> None:
            self.db.execute("DELETE FROM item WHERE key = ?", (key,))
            self.note = Path(self.path).with_name("gone.txt")

        note: Any = None

    calls = (*others_stores.ShelfTarget.calls, Action("remove", {"key": "a"}))

    def view(self, store: Any) -> Any:
        if store.note is not None:
            store.note.read_text()
        return store.all()


def test_a_view_that_fails_is_told_with_the_call_and_the_file(home: Path) -> None:
    told = r"`view` fails without any fault after remove\(key='a'\): it failed with FileNotFoundError: .* '….gone.txt'"
    with pytest.raises(SetUpError, match=told):
        rehearsed(ShowsWhatIsGone, home)
