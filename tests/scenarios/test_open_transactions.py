"""A finding whose cause is a transaction that stayed open says so."""

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from seeds import first_of

from tornpage import Action, Configuration, SimpleTarget, faults
from tornpage.scenarios.execution.generic_checks.open_connections import leaves_a_transaction
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.targets.registry import find_or_import


class Shelf:
    """It leaves a failed call's transaction open, and the next call commits it."""

    def __init__(self, path: Path, *, tidies: bool) -> None:
        self.path, self.tidies = path, tidies
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS shelf (name TEXT PRIMARY KEY, n INTEGER)")

    def put(self, name: str, n: int) -> None:
        try:
            self.db.execute("INSERT OR REPLACE INTO shelf VALUES (?, ?)", (name, n))
            self.db.commit()
        except sqlite3.Error:
            if self.tidies:
                self.db.rollback()
            raise

    def close(self) -> None:
        self.db.close()


class ShelfTarget(SimpleTarget):
    title = "a shelf that is looked at from outside"
    file = "shelf.sqlite"
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("put", {"name": "a", "n": 1}), Action("put", {"name": "a", "n": 2}))
    beat = Action("put", {"name": "beat", "n": 0})
    tidies = False

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Shelf:
        return Shelf(path, tidies=self.tidies)

    def view(self, store: Shelf) -> dict[str, int]:
        with contextlib.closing(sqlite3.connect(store.path)) as connection:
            return self.rows(connection)

    def rows(self, connection: sqlite3.Connection) -> dict[str, int]:
        return dict(connection.execute("SELECT name, n FROM shelf"))


class TidyTarget(ShelfTarget):
    tidies = True


class OnAThread:
    """The shelf on a thread of its own, as aiosqlite has one for each connection."""

    def __init__(self, path: Path, *, tidies: bool) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.shelf = self.thread.submit(Shelf, path, tidies=tidies).result()

    def put(self, name: str, n: int) -> None:
        self.thread.submit(self.shelf.put, name, n).result()

    def rows(self) -> dict[str, int]:
        return self.thread.submit(lambda: dict(self.shelf.db.execute("SELECT name, n FROM shelf"))).result()

    def close(self) -> None:
        self.thread.submit(self.shelf.close).result()
        self.thread.shutdown()


class ThreadTarget(ShelfTarget):
    def make(self, path: Path, configuration: Configuration, environment: Any) -> Any:
        return OnAThread(path, tidies=self.tidies)

    def view(self, store: Any) -> dict[str, int]:
        found: dict[str, int] = store.rows()
        return found


class TidyThreadTarget(ThreadTarget):
    tidies = True


@pytest.mark.parametrize("kind", [ShelfTarget, TidyTarget])
def test_the_next_call_commits_what_a_failed_one_has_left(kind: type[ShelfTarget], tmp_path: Path) -> None:
    recorder = Recorder()
    with faults.install():
        Sweep(kind(), recorder, tmp_path, plan=faults.FaultPlan.parse("lock:db@3..=BUSY")).run()
    messages = [one.finding.message for one in recorder.findings]
    carried = "it wrote the change of the failed call before it, too, from an open transaction or from memory"
    assert recorder.count("fired")
    assert bool(messages) == (kind is ShelfTarget)
    assert all(carried in one for one in messages)


@pytest.mark.parametrize("kind", [ThreadTarget, TidyThreadTarget])
def test_a_transaction_on_a_connection_of_another_thread_is_named(kind: type[ShelfTarget], tmp_path: Path) -> None:
    recorder = Recorder()
    with faults.install():
        Sweep(kind(), recorder, tmp_path, plan=faults.FaultPlan.parse("lock:db@3..=BUSY")).run()
    messages = [one.finding.message for one in recorder.findings]
    assert recorder.count("fired")
    assert bool(messages) == (kind is ThreadTarget)
    assert all("a transaction is still open, neither committed nor rolled back" in one for one in messages)


@pytest.mark.parametrize("seed", first_of(range(2)))
def test_a_small_sample_has_each_lock_that_stays_refused(seed: int, tmp_path: Path) -> None:
    """A single refusal is hidden by the busy handler, so only this shows what is left open at a COMMIT."""
    recorder = Recorder(most_findings=1)
    with faults.install():
        Sweep(ShelfTarget(), recorder, tmp_path, most_points_per_call=1, every_operation=True, seed=seed).run()
    assert any("it wrote the change of the failed call before it" in one.finding.message for one in recorder.findings)


class LeavesItOpen(Shelf):
    """Its transaction begins by hand, and stays open where COMMIT meets another reader."""

    def __init__(self, path: Path, *, tidies: bool) -> None:
        super().__init__(path, tidies=tidies)
        self.db.commit()
        self.db.isolation_level = None
        self.db.execute("PRAGMA busy_timeout = 0")

    def put(self, name: str, n: int) -> None:
        if not self.db.in_transaction:
            self.db.execute("BEGIN")
        try:
            self.db.execute("SELECT n FROM shelf").fetchall()
            super().put(name, n)
        except sqlite3.Error:
            if self.tidies and self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise


class LeavesItOpenTarget(ShelfTarget):
    def make(self, path: Path, configuration: Configuration, environment: Any) -> Shelf:
        return LeavesItOpen(path, tidies=self.tidies)

    def view(self, store: Shelf) -> dict[str, int]:
        return self.rows(store.db)


class TidiesUpTarget(LeavesItOpenTarget):
    tidies = True


@pytest.mark.parametrize("name", ["LeavesItOpenTarget", "TidiesUpTarget"])
def test_a_lock_that_a_caller_has_left_is_a_finding_of_two_callers(name: str) -> None:
    profile = Profile("test", 1, None, 0, 0, schedules=20)
    target = find_or_import(f"test_open_transactions:{name}")
    recorder = campaign.run(target, Plan(("interleave",), profile, report=None))
    messages = [one.finding.message for one in recorder.findings]
    assert recorder.vacuous == []
    assert bool(messages) == (name == "LeavesItOpenTarget")
    assert not messages or any("after both calls a fresh reader fails: OperationalError" in one for one in messages)


class CommitsAtItsEnd(Shelf):
    """A read that writes leaves its transaction open, and its connection too where the COMMIT of `close` is refused."""

    def __init__(self, path: Path, *, tidies: bool) -> None:
        super().__init__(path, tidies=tidies)
        self.db.execute("PRAGMA busy_timeout = 0")

    def seen(self, name: str) -> list[Any]:
        with self.db if self.tidies else contextlib.nullcontext():
            self.db.execute("UPDATE shelf SET n = n WHERE name = ?", (name,))
        return self.db.execute("SELECT n FROM shelf WHERE name = ?", (name,)).fetchall()

    def close(self) -> None:
        self.db.commit()
        self.db.close()


class CommitsAtItsEndTarget(ShelfTarget):
    calls = (Action("put", {"name": "a", "n": 1}), Action("seen", {"name": "a"}))

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Shelf:
        return CommitsAtItsEnd(path, tidies=self.tidies)

    def view(self, store: Shelf) -> dict[str, int]:
        return self.rows(store.db)


class CommitsAtOnceTarget(CommitsAtItsEndTarget):
    tidies = True


class CountsAtItsEndTarget(CommitsAtItsEndTarget):
    """Here two calls differ from the serial orders without a switch, too."""

    class Counts(CommitsAtItsEnd):
        def seen(self, name: str) -> list[Any]:
            self.db.execute("UPDATE shelf SET n = n + 1 WHERE name = ?", (name,))
            return self.db.execute("SELECT n FROM shelf WHERE name = ?", (name,)).fetchall()

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Shelf:
        return self.Counts(path, tidies=False)


def test_a_change_that_a_call_has_left_open_is_no_memory_of_a_store_for_one_caller() -> None:
    profile = Profile("test", 1, None, 0, 0, schedules=20)
    target = find_or_import("test_open_transactions:CountsAtItsEndTarget")
    recorder = campaign.run(target, Plan(("interleave",), profile, report=None, most_findings=1))
    assert recorder.findings
    assert recorder.vacuous == []
    assert not any("not tried" in note for ended in recorder.ended for note in ended.notes)


@pytest.mark.parametrize("callers", [("threads",), ("processes",), None])
@pytest.mark.parametrize("name", ["CommitsAtItsEndTarget", "CommitsAtOnceTarget"])
def test_a_store_that_can_not_be_closed_keeps_no_lock_from_the_next_schedule(
    name: str, callers: tuple[Callers, ...] | None
) -> None:
    profile = Profile("test", 1, None, 0, 0, schedules=48)
    target = find_or_import(f"test_open_transactions:{name}")
    recorder = campaign.run(target, Plan(("interleave",), profile, report=None, callers=callers))
    messages = [one.finding.message for one in recorder.findings]
    assert recorder.vacuous == []
    assert any("closing fails: OperationalError('database is locked'); a tr" in one for one in messages) == (
        name == "CommitsAtItsEndTarget"
    )
    assert name == "CommitsAtItsEndTarget" or messages == []


@pytest.mark.parametrize("texts", [str, bytes])
def test_an_open_transaction_is_seen_whatever_the_connection_makes_of_texts(texts: type, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "shelf.db", isolation_level=None)) as connection:
        connection.text_factory = texts
        assert not leaves_a_transaction(tmp_path)
        connection.execute("BEGIN")
        assert leaves_a_transaction(tmp_path)
        assert not leaves_a_transaction(tmp_path / "elsewhere")
        connection.execute("ROLLBACK")
