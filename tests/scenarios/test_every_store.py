"""What every store is held to without a word of its author: a log with a bound, files that it opens to nobody else.

And what a fault has led to is a finding also where it shows only in a later call.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import others_stores
import pytest

from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.execution.generic_checks.log_growth import require_bounded
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.explain import explanation
from tornpage.scenarios.model.judging.checks import CHECKS, Violation, applied_to
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario, Soak
from tornpage.scenarios.model.target import Action, TargetError
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]


class LogTarget(others_stores.ShelfTarget):
    configurations = others_stores.WAL


class Logged(others_stores.Shelf):
    """A shelf with a log; `pages` is its bound."""

    pages = 1_000

    def set_up(self) -> None:
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute(f"PRAGMA wal_autocheckpoint = {self.pages}")
        super().set_up()


class SoundLog(LogTarget):
    kind = Logged


class SoundSmallLog(LogTarget):
    class kind(Logged):  # noqa: N801 - the attribute's name
        pages = 4


class SoundLargeLog(LogTarget):
    class kind(Logged):  # noqa: N801
        pages = 100_000


class SoundChecksPointsItself(LogTarget):
    class kind(Logged):  # noqa: N801
        pages, puts = 0, 0

        def put(self, key: str, value: object = 1) -> None:
            super().put(key, value)
            self.puts += 1
            if self.puts % 50 == 0:
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class SoundReader(LogTarget):
    """Reads on a connection of its own, and to the end."""

    class kind(Logged):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.reader = sqlite3.connect(self.path, isolation_level=None)

        def first(self) -> Any:
            return self.look()

        def look(self) -> Any:
            return self.reader.execute("SELECT key FROM item").fetchall()

        def close(self) -> None:
            self.reader.close()
            super().close()

    calls = (*LogTarget.calls, Action("first"))


class LeavesACursor(SoundReader):
    class kind(SoundReader.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def look(self) -> Any:
            self.cursor = self.reader.execute("SELECT key FROM item")
            return next(self.cursor)

        def close(self) -> None:
            self.cursor = None
            super().close()


class LeavesATransaction(SoundReader):
    class kind(SoundReader.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def look(self) -> Any:
            if not self.reader.in_transaction:
                self.reader.execute("BEGIN")
            return super().look()


class NeverCheckpoints(LogTarget):
    class kind(Logged):  # noqa: N801
        pages = 0


def soaked(target: Any, home: Path) -> Violation | None:
    steps = (*map(Call, target.calls), Soak())
    return play(Scenario("store", others_stores.WAL[0], steps), target(), home / "soaked")[0]


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize("target", [SoundLog, SoundSmallLog, SoundLargeLog, SoundChecksPointsItself, SoundReader])
def test_a_log_that_has_a_bound_is_left_alone(target: Any, home: Path) -> None:
    assert soaked(target, home) is None


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize(
    ("target", "why"),
    [
        (LeavesACursor, "a reader of the store"),
        (LeavesATransaction, "a transaction that was left open"),
        (NeverCheckpoints, "wal_autocheckpoint is 0"),
    ],
)
def test_a_log_that_grows_without_a_bound_is_found_with_its_reason(target: Any, why: str, home: Path) -> None:
    violation = soaked(target, home)
    assert violation is not None
    assert violation.code == "log-stays-small"
    assert why in violation.message


@pytest.mark.parametrize("log_pages", [0, 50])
def test_a_change_that_writes_nothing_when_it_is_made_again_is_not_made_for_ever(log_pages: int, home: Path) -> None:
    home.mkdir(exist_ok=True)
    with closing(sqlite3.connect(home / "store.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE item (key TEXT PRIMARY KEY, value)")
        for number in range(log_pages):
            db.execute("INSERT OR REPLACE INTO item VALUES ('a', ?)", (number,))
        made = require_bounded(lambda: db.execute("INSERT OR IGNORE INTO item VALUES ('b', 1)"), home / "store.db")
    # The first one writes.
    assert made == 101


def test_a_log_that_is_written_over_is_not_taken_for_one_that_rests(home: Path) -> None:
    home.mkdir(exist_ok=True)
    with closing(sqlite3.connect(home / "store.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE item (key TEXT PRIMARY KEY, value)")

        def put() -> None:
            db.execute("INSERT OR REPLACE INTO item VALUES ('a', random())")

        for _ in range(300):
            put()
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        put()
        db.execute("PRAGMA wal_autocheckpoint = 0")
        # 300 frames lie there already, and the file does not grow before they are written over.
        with pytest.raises(Violation, match="has not restarted"):
            require_bounded(put, home / "store.db")


def test_the_sweep_asks_for_the_log_and_shows_the_call_that_keeps_it(search: Search) -> None:
    recorder = search(LeavesACursor(), points=1)
    (found,) = recorder.findings
    assert found.finding.code == "log-stays-small"
    assert [str(step) for step in found.finding.scenario.steps][-2:] == ["first()", str(Soak())]


# -- the modes of its files ------------------------------------------------------------------------------------------


class SoundPrivate(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            Path(self.path).chmod(0o600)


class OpensToAll(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            Path(self.path).chmod(0o644)


class SetsAUmask(others_stores.ShelfTarget):
    class kind(others_stores.Shelf):  # noqa: N801
        def __init__(self, path: Any) -> None:
            outer = os.umask(0)
            try:
                super().__init__(path)
            finally:
                os.umask(outer)


def modes(target: Any, home: Path) -> Violation | None:
    with Trial(target(), others_stores.DELETE[0], home, {}) as trial:
        trial.open()
        trial.call(Action("put", {"key": "a"}), {"a": 1})
        try:
            trial.look()
        except Violation as violation:
            return violation
    return None


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize("target", [others_stores.Sound, SoundPrivate])
def test_a_store_that_leaves_its_files_to_the_umask_is_left_alone_whichever_it_is(target: Any, home: Path) -> None:
    outer = os.umask(0o002)
    try:
        assert modes(target, home) is None
        assert os.umask(0o002) == 0o002
    finally:
        os.umask(outer)


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize("target", [OpensToAll, SetsAUmask])
def test_a_store_that_opens_its_files_to_others_is_found(target: Any, home: Path) -> None:
    violation = modes(target, home)
    assert violation is not None
    assert violation.code == "files-are-private"
    assert "store.sqlite has the mode 0644" in violation.message


# -- a fault that shows later ------------------------------------------------------------------------------------------


class Tidies(others_stores.ShelfTarget):
    """A call that commits twice; stopped half-way, it leaves a mark that the next call trips over."""

    class kind(others_stores.Shelf):  # noqa: N801
        def tidy(self) -> None:
            super().put("mark")
            self.db.execute("DELETE FROM item WHERE key = 'mark'")

        def put(self, key: str, value: object = 1) -> None:
            if "mark" in self.all():
                raise RuntimeError("somebody is tidying")
            super().put(key, value)

    depths = ("vfs", "statement")
    many_commits = ("tidy",)

    def make(self, path: Path, configuration: Any, environment: Any) -> Any:
        kind = self.kind(path)
        kind.db.close()
        kind.db = environment.connect(path, isolation_level=None)
        return kind


@pytest.mark.usefixtures("shim")
def test_what_an_earlier_fault_has_led_to_is_a_finding_with_its_whole_scenario(home: Path) -> None:
    put, tidy = Call(Action("put", {"key": "a"})), Call(Action("tidy"))
    steps = (Restart(), Arm("commit@2=BUSY", "statement"), tidy, Clear(), put)
    violation, _ = play(Scenario("store", others_stores.DELETE[0], steps), Tidies(), home / "played")
    assert violation is not None
    assert violation.code == "still-usable-after-the-fault"
    assert "on the files that earlier faults have left" in violation.message
    assert "somebody is tidying" in violation.message


@pytest.mark.usefixtures("shim")
def test_what_fails_on_files_that_no_fault_came_near_is_a_mistake_of_the_workload(home: Path) -> None:
    with Executor(Tidies(), others_stores.DELETE[0], home / "played") as executor:
        executor.do(Call(Action("put", {"key": "mark"})))
        with pytest.raises(TargetError, match=r"put.* fails without any fault"):
            executor.do(Call(Action("put", {"key": "a"})))


class Rates(others_stores.ShelfTarget):
    """A call that fails by a mistake of the caller's, where its key is missing."""

    class kind(others_stores.Shelf):  # noqa: N801
        def rate(self, key: str) -> None:
            self.put(key, self.all().get(key).bit_length())


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize("lead", [(), (Call(Action("put", {"key": "b"})),)], ids=["empty", "other-key"])
def test_a_call_that_makes_no_sense_is_a_mistake_of_the_workload_whatever_faults_have_led_there(
    home: Path, lead: tuple[Call, ...]
) -> None:
    failing = (Arm("write:db@1..=FULL", "vfs"), Call(Action("put", {"key": "a"})), Clear(), Restart(crash=True))
    with Executor(Rates(), others_stores.DELETE[0], home / "played") as executor:
        for step in (*lead, *failing):
            executor.do(step)
        with pytest.raises(TargetError, match=r"rate.* fails without any fault: .* `actions` leaves it out"):
            executor.do(Call(Action("rate", {"key": "a"})))


# -- for which targets a check applies ---------------------------------------------------------------------------------


def test_each_check_says_for_which_targets_it_applies_and_the_page_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
    for code, check in CHECKS.items():
        assert check.applies_to in str(explanation(code))
        section = page.partition(f"\n## {code}\n")[2].partition("\n## ")[0]
        assert f"*Applies to:* {check.applies_to}." in section, code


def test_the_checks_of_a_run_are_those_of_its_searches_and_files() -> None:
    in_wal = applied_to(("sweep", "contend"), {"wal"}, keeps_sqlite=True, has_own_rules=False)
    assert {"error-is-not-hidden", "integrity", "log-stays-small", "waits-for-a-short-lock"} <= set(in_wal)
    assert not {"terminal-is-final", "deadlock"} & set(in_wal)
    assert "log-stays-small" not in applied_to(("sweep",), {"delete"}, keeps_sqlite=True, has_own_rules=False)
    of_files = applied_to(("crash",), {"file"}, keeps_sqlite=False, has_own_rules=False)
    assert "integrity" in of_files
    assert "waits-for-a-short-lock" not in of_files
    assert set(
        applied_to(("sweep", "interleave", "fuzz"), {"wal", "delete"}, keeps_sqlite=True, has_own_rules=True)
    ) == set(CHECKS) - {"survives-a-failed-sync", "damage-is-not-hidden"}
