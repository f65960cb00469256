"""Stores that complete or undo, as they open, what a crash has interrupted: judged by what they show then."""

import json
import sqlite3
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from crash_places import Base, Keys, synced

from tornpage import faults
from tornpage.faults.files.in_place import is_supported
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.targets.registry import find_or_import

pytestmark = pytest.mark.skipif(not is_supported(), reason="built-in functions of this interpreter are out of reach")


class Derived(Keys):
    """Each change is in a file that is synced; the table is filled from the file at each start."""

    synchronous = "NORMAL"
    fills = True

    def begin(self) -> None:
        self.source = self.path.with_name("source.json")
        self.known: dict[str, Any] = json.loads(self.source.read_bytes()) if self.source.exists() else {}
        if self.fills and self.known != self.all():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                self.db.execute("DELETE FROM kv")
                self.db.executemany("INSERT INTO kv VALUES (?, ?)", self.known.items())
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def put(self, name: str, value: Any) -> None:
        known = {**self.known, name: value}
        synced(self.source, json.dumps(known).encode())
        self.known = known
        super().put(name, value)


class NeverFilled(Derived):
    fills = False


class Filled(Base):
    kind = Derived


class LosesWhatIsNotFilled(Base):
    """acknowledged-is-durable: the file has it, and nobody reads the file."""

    kind = NeverFilled


class Swept(Keys):
    """A row, and then its file; a start removes the rows without a file."""

    really = True

    def begin(self) -> None:
        for name in self.all():
            if not self.path.with_name(f"{name}.blob").exists():
                self.remove(name)

    def put(self, name: str, value: Any) -> None:
        super().put(name, value)
        blob = self.path.with_name(f"{name}.blob")
        if self.really:
            synced(blob, b"x")
        else:
            blob.write_bytes(b"x")


class SweptAtStart(Base):
    kind = Swept


class SweptUnsynced(Swept):
    really = False


class LosesWhatItSweeps(Base):
    """acknowledged-is-durable: the file's name may be lost, and then the start removes the acknowledged row."""

    kind = SweptUnsynced


class WithContents(Base):
    """Its rows are read with the files that they name: a row without its file makes a plain reader raise."""

    kind = Swept

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        home = Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent
        return {name: home.joinpath(f"{name}.blob").read_text() for name in super().rows(connection)}

    def view(self, store: Any) -> dict[str, Any]:
        return {name: store.path.with_name(f"{name}.blob").read_text() for name in store.all()}


class SweptContents(WithContents):
    """Sound: only a start makes its files readable."""


class LosesContents(WithContents):
    """acknowledged-is-durable: as above, and an acknowledged row may be removed."""

    kind = SweptUnsynced


class KeptAsTheyAre(Swept):
    def begin(self) -> None:
        """Remove nothing."""


class NeverSwept(WithContents):
    """integrity: a row without its file stays, and neither the store nor a reader can read on."""

    kind = KeptAsTheyAre


class SweptOnErrors(Swept):
    def begin(self) -> None:
        for name in self.all():
            try:
                self.path.with_name(f"{name}.blob").read_text()
            except OSError:
                self.remove(name)


class SweepsOnErrors(WithContents):
    """acknowledged-is-durable: it takes each error for a missing file."""

    kind = SweptOnErrors


def wrong_in(target: Base, tmp_path: Path) -> set[str]:
    """The checks that fail in the crash states of two calls, without any fault."""
    found = set()
    with faults.install(), faults.shims().deterministic():
        executor = Executor(target, target.configurations[0], tmp_path / "recorded", record=True)
        with executor:
            for call in target.calls:
                executor.do(Call(call))
            executor.close_session()
        recording = executor.recording
        assert recording is not None
        states, reader = recording.states(), recording.reader()
        for position in range(len(recording.tape) + 1):
            # All that is unsynced is kept, or lost, or has its names alone; and a few single losses.
            for state in (states.process(position), *islice(states.power(position), 8)):
                try:
                    recording.judge(state, reader)
                except Violation as violation:
                    found.add(violation.code)
    return found


@pytest.mark.parametrize("kind", [Filled, SweptAtStart, SweptContents])
def test_what_a_start_makes_of_the_files_is_what_the_crash_has_left(tmp_path: Path, kind: type[Base]) -> None:
    assert not wrong_in(kind(), tmp_path)


@pytest.mark.parametrize("kind", [LosesWhatIsNotFilled, LosesWhatItSweeps, LosesContents])
def test_a_start_that_loses_what_was_acknowledged_is_found(tmp_path: Path, kind: type[Base]) -> None:
    assert "acknowledged-is-durable" in wrong_in(kind(), tmp_path)


def test_files_that_neither_the_store_nor_a_reader_can_read_are_found(tmp_path: Path) -> None:
    assert wrong_in(NeverSwept(), tmp_path) == {"integrity"}


PROFILE = Profile("test", 1, None, 0, 0, crash_states=12, kills=12)


@pytest.mark.parametrize("search", ["crash", "kill"])
def test_a_start_that_fails_under_a_fault_may_leave_the_rest_to_the_next_one(search: str) -> None:
    target = find_or_import(f"{__name__}:SweptContents")
    recorder = run(target, Plan((search,), PROFILE, report=None))
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []


def test_a_start_under_a_fault_that_loses_a_row_is_found() -> None:
    # So many that it is found with each of the first seeds.
    profile = Profile("test", 1, None, 0, 0, crash_states=30)
    recorder = run(SweepsOnErrors(), Plan(("crash",), profile, report=None, most_findings=1))
    assert "acknowledged-is-durable" in {found.finding.code for found in recorder.findings}


class Remembers(Keys):
    """memory-equals-disk: it shows what a file beside the database says, and no start writes that to the table."""

    def begin(self) -> None:
        self.side = self.path.with_name("side.json")
        self.shown = json.loads(self.side.read_bytes()) if self.side.exists() else {}

    def put(self, name: str, value: Any) -> None:
        synced(self.side, json.dumps({**self.shown, name: value}).encode())
        super().put(name, value)
        self.shown[name] = value

    def all(self) -> dict[str, Any]:
        return dict(self.shown)


class ShowsTheSideFile(Base):
    kind = Remembers


def test_a_store_that_shows_what_no_reader_sees_is_found(tmp_path: Path) -> None:
    assert "memory-equals-disk" in wrong_in(ShowsTheSideFile(), tmp_path)
