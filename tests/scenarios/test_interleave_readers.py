"""A call that only reads, and meets a writer in the middle: it is tried, however many pairs of writers there are."""

import sqlite3
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from seeds import first_of

from tornpage import Action, Configuration, SimpleTarget
from tornpage.scenarios.model.plan import PROFILES, Plan
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.run.campaign import run


class Halves:
    """Every entry has two rows, written in one transaction; two threads on one store take turns."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("CREATE TABLE IF NOT EXISTS half (name TEXT PRIMARY KEY, n INTEGER)")
        except BaseException:
            self.db.close()
            raise

    def put(self, name: str, n: int) -> None:
        with self.lock:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                self.write(name, n)
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def write(self, name: str, n: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO half VALUES (?, ?)", (f"{name}/left", n))
        self.db.execute("INSERT OR REPLACE INTO half VALUES (?, ?)", (f"{name}/right", n))

    def put_one(self, name: str) -> None:
        with self.lock:
            self.db.execute("INSERT OR REPLACE INTO half VALUES (?, 0)", (name,))

    def total(self) -> int:
        with self.lock:
            return self.read()

    def read(self) -> int:
        (total,) = self.db.execute("SELECT coalesce(sum(n), 0) FROM half").fetchone()
        return int(total)

    def close(self) -> None:
        self.db.close()


class ReadsWithoutTheLock(Halves):
    def total(self) -> int:
        return self.read()


class WritesInTwo(Halves):
    def put(self, name: str, n: int) -> None:
        self.write(name, n)


class Target(SimpleTarget):
    title = "halves"
    file = "halves.sqlite"
    kind: ClassVar[type[Halves]] = Halves
    calls = tuple(
        Action(name, args)
        for name, args in (("put", {"name": "a", "n": 1}), ("total", {}), ("put", {"name": "a", "n": 2}), ("total", {}))
    )
    beat = Action("put_one", {"name": "heartbeat"})

    def make(self, path: Path, *_: Any) -> Halves:
        return self.kind(path)

    def view(self, store: Halves) -> dict[str, int]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, int]:
        return dict(connection.execute("SELECT name, n FROM half"))


class Shared(Target):
    callers: tuple[Callers, ...] = ("shared",)


class WithoutTheLock(Shared):
    kind = ReadsWithoutTheLock


class InTwo(Target):
    callers: tuple[Callers, ...] = ("threads",)
    kind = WritesInTwo


class InOne(InTwo):
    kind = Halves


def found(target: Target, seed: int) -> set[str]:
    recorder = run(target, Plan(("interleave",), PROFILES["quick"], seed=seed, report=None))
    return {one.finding.code for one in recorder.findings}


@pytest.mark.parametrize("seed", first_of(range(3)))
@pytest.mark.parametrize("target", [WithoutTheLock(), InTwo()])
def test_a_reader_sees_half_of_what_is_written(target: Target, seed: int) -> None:
    assert "not-serializable" in found(target, seed)


@pytest.mark.parametrize("target", [Shared(), InOne()])
def test_a_reader_sees_all_or_nothing_of_a_transaction(target: Target) -> None:
    assert not found(target, 0)


class RemembersTheTotal(Halves):
    """Keeps the total until it writes itself."""

    kept: int | None = None

    def put(self, name: str, n: int) -> None:
        super().put(name, n)
        self.kept = None

    def total(self) -> int:
        self.kept = super().total() if self.is_outdated() or self.kept is None else self.kept
        return self.kept

    def is_outdated(self) -> bool:
        return False


class AsksForTheVersion(RemembersTheTotal):
    version: int = 0

    def is_outdated(self) -> bool:
        before, (self.version,) = self.version, self.db.execute("PRAGMA data_version").fetchone()
        return before != self.version


class TellsWhatIsNew(Halves):
    """The total of what has come since the last call."""

    told = 0

    def total(self) -> int:
        before, self.told = self.told, super().total()
        return self.told - before


class OfKind(Target):
    """Two threads, each with a store of its own."""

    def __init__(self, kind: type[Halves], callers: tuple[Callers, ...] | None) -> None:
        super().__init__()
        self.kind, self.callers = kind, callers  # type: ignore[misc, assignment]


def test_a_cache_that_the_view_does_not_show_is_stale_after_another_caller_s_commit() -> None:
    assert found(OfKind(RemembersTheTotal, ("threads",)), seed=0) == {"stale-view"}


@pytest.mark.parametrize("kind", [AsksForTheVersion, TellsWhatIsNew])
def test_a_cache_that_is_read_again_and_what_is_new_are_not_stale(kind: type[Halves]) -> None:
    assert found(OfKind(kind, ("threads",)), seed=0) == set()


class ForgetsFirst(Halves):
    """One cache for all threads, cleared before the write: a read in between fills it with the old total."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kept: int | None = None

    def put(self, name: str, n: int) -> None:
        self.kept = None
        super().put(name, n)

    def total(self) -> int:
        if self.kept is None:
            self.kept = super().total()
        return self.kept


class ForgetsThen(ForgetsFirst):
    """Clears it once the write is committed: a read that began before that keeps the old total afterwards."""

    def put(self, name: str, n: int) -> None:
        Halves.put(self, name, n)
        self.kept = None


class ForgetsUnderTheLock(ForgetsFirst):
    """Reads and keeps under the lock under which it writes and clears."""

    def write(self, name: str, n: int) -> None:
        super().write(name, n)
        self.kept = None

    def put(self, name: str, n: int) -> None:
        Halves.put(self, name, n)

    def total(self) -> int:
        with self.lock:
            self.kept = self.read() if self.kept is None else self.kept
            return self.kept


@pytest.mark.parametrize(
    ("kind", "codes"),
    [(ForgetsFirst, {"stale-view"}), (ForgetsThen, {"stale-view"}), (ForgetsUnderTheLock, set[str]())],
)
def test_a_cache_that_a_read_fills_during_a_write_is_stale_afterwards(kind: type[Halves], codes: set[str]) -> None:
    assert found(OfKind(kind, ("shared",)), seed=0) == codes


class Seen:
    """Names, each known or not; asked of the file each time."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("CREATE TABLE IF NOT EXISTS seen (name TEXT PRIMARY KEY)")
        except BaseException:
            self.db.close()
            raise
        self.names = self.read()

    def read(self) -> set[str]:
        return {name for (name,) in self.db.execute("SELECT name FROM seen").fetchall()}

    def note(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (name,))

    def knows(self, name: str) -> bool:
        return name in self.read()

    def close(self) -> None:
        self.db.close()


class Filters(Seen):
    """Asks the file only of what a filter in memory has, which another process does not fill."""

    def note(self, name: str) -> None:
        super().note(name)
        self.names.add(name)

    def knows(self, name: str) -> bool:
        return name in self.names and super().knows(name)


class IsNew(Seen):
    """Says once that a name is known."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.told = set[str]()

    def knows(self, name: str) -> bool:
        new = (self.read() & {name}) - self.told
        self.told |= new
        return bool(new)


class SeenTarget(SimpleTarget):
    callers = ("threads",)
    configurations = (Configuration("delete", "FULL"),)
    kind: ClassVar[type[Seen]] = Seen
    calls = tuple(Action(what, {"name": name}) for what, name in (("note", "a"), ("knows", "b"), ("note", "b")))
    beat = Action("note", {"name": "heartbeat"})

    def make(self, path: Path, *_: Any) -> Seen:
        return self.kind(path)

    def view(self, store: Seen) -> dict[str, bool]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, bool]:
        return {name: True for (name,) in connection.execute("SELECT name FROM seen").fetchall()}


class FiltersTarget(SeenTarget):
    kind = Filters


class IsNewTarget(SeenTarget):
    kind = IsNew


@pytest.mark.parametrize(
    ("target", "wanted"), [(SeenTarget, set()), (FiltersTarget, {"stale-view"}), (IsNewTarget, set())]
)
def test_a_read_that_still_says_no_after_the_others_change_is_found(target: type[SeenTarget], wanted: set[str]) -> None:
    recorder = run(target(), Plan(("interleave",), PROFILES["quick"], report=None))
    assert {one.finding.code for one in recorder.findings} == wanted
    assert all("knows(name='b'), made again after" in one.finding.message for one in recorder.findings)
