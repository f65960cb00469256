"""After a failed call a read returns what it returns in the state on disk, also if it was made before."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]


class Names:
    """A set of names, which `listed` reads once; `add` forgets the list, whatever happens."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.cache: list[str] | None = None
        self.failures = 0
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS name (name TEXT PRIMARY KEY)")
        except BaseException:
            self.db.close()
            raise

    def rows(self) -> list[str]:
        return [name for (name,) in self.db.execute("SELECT name FROM name ORDER BY name").fetchall()]

    def write(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO name VALUES (?)", (name,))

    def add(self, name: str) -> None:
        try:
            self.write(name)
        except sqlite3.Error:
            self.failures += 1
            raise
        finally:
            self.cache = None

    def listed(self) -> list[str]:
        if self.cache is None:
            self.cache = self.rows()
        return list(self.cache)

    def stats(self) -> dict[str, int]:
        return {"names": len(self.rows()), "failures": self.failures}

    def close(self) -> None:
        self.db.close()


class ForgetsIfAcknowledged(Names):
    """Keeps the list after a COMMIT that raised and had happened."""

    def add(self, name: str) -> None:
        self.write(name)
        self.cache = None


class ListsFirst(Names):
    """Adds to the list before the row."""

    def add(self, name: str) -> None:
        if self.cache is not None and name not in self.cache:
            self.cache = sorted([*self.cache, name])
        self.write(name)


class NamesTarget(SimpleTarget):
    title = "names"
    calls = (Action("add", {"name": "a"}), Action("listed"), Action("stats"), Action("add", {"name": "b"}))
    beat = Action("add", {"name": "beat"})
    configurations = (Configuration("delete", "FULL"),)

    def __init__(self, kind: type[Names]) -> None:
        super().__init__()
        self.kind = kind

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Names:
        return self.kind(path)

    def view(self, store: Names) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {name: True for (name,) in connection.execute("SELECT name FROM name").fetchall()}


@pytest.mark.parametrize(("kind", "returned"), [(ForgetsIfAcknowledged, "returned []"), (ListsFirst, "returned ['a']")])
def test_a_cache_that_the_view_does_not_show_is_read_after_a_failed_call(
    search: Search, kind: type[Names], returned: str, tmp_path: Path
) -> None:
    recorder = search(NamesTarget(kind), "sweep")
    ((code, message),) = {(one.finding.code, one.finding.message) for one in recorder.findings}
    assert code == "wrong-answer"
    assert returned in message


def test_a_sound_cache_and_a_count_of_failures_are_not_accused(search: Search) -> None:
    assert search(NamesTarget(Names), "sweep").findings == []


class AtWal(NamesTarget):
    configurations = (Configuration("wal", "FULL"),)

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Names:
        names = self.kind(path)
        names.db.execute("PRAGMA journal_mode = WAL").fetchall()
        return names


@pytest.mark.parametrize(("kind", "codes"), [(ListsFirst, {"wrong-answer"}), (Names, set())])
def test_a_fault_that_a_warm_session_does_not_meet_leaves_its_turn_to_another(
    search: Search, kind: type[Names], codes: set[str]
) -> None:
    # With a log the first faults are in reads of the schema, which a session makes once.
    recorder = search(AtWal(kind), "sweep", points=60)
    assert {one.finding.code for one in recorder.findings} == codes


class LeavesACursor(Names):
    """Keeps a cursor that is not read to its end, and with it its files."""

    left: ClassVar[list[sqlite3.Cursor]] = []

    def listed(self) -> list[str]:
        self.left.append(self.db.execute("SELECT name FROM name UNION ALL SELECT 'last'"))
        self.left[-1].fetchone()
        return self.rows()


class LeavesACursorTarget(NamesTarget):
    unpromised = dict.fromkeys(("still-usable-after-the-fault", "log-stays-small", "lets-others-write"), "a test")

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Names:
        return LeavesACursor(path)


@pytest.fixture
def _no_cursors_are_left() -> Iterator[None]:
    yield
    LeavesACursor.left.clear()


@pytest.mark.usefixtures("_no_cursors_are_left")
def test_a_store_whose_files_stay_open_ends_no_search(search: Search) -> None:
    target = LeavesACursorTarget(Names)
    with pytest.raises(TargetError, match="files are still open"):
        search(target, "sweep", points=4)
    recorder = search(target, "fuzz", scenarios=4, steps=6)
    assert not faults.shims().is_recording
    assert {one.finding.code for one in recorder.observations} == {"still-usable-after-the-fault"}
