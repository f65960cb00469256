"""A call that the store refuses leaves no transaction open, and the calls after it work."""

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import others_stores
import pytest

from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.preflight.contract import require_contract
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Call, Clear, CrashAt, Scenario
from tornpage.scenarios.model.target import Action, Configuration, TargetError
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import ProcessTarget

Search = Callable[..., Recorder]


class TakenError(Exception):
    """There is one of that key."""


class Adds(others_stores.ShelfTarget):
    """Rolls back whatever happens."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def add(self, key: str) -> None:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                self.insert(key)
                self.db.execute("COMMIT")
            except BaseException as error:
                self.failed(error)
                raise

        def insert(self, key: str) -> None:
            if self.db.execute("SELECT 1 FROM item WHERE key = ?", (key,)).fetchall():
                raise TakenError(key)
            self.db.execute("INSERT INTO item VALUES (?, 1)", (key,))

        def failed(self, error: BaseException) -> None:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    calls: Any = (Action("add", {"key": "a"}), Action("add", {"key": "b"}))
    beat = Action("add", {"key": "beat"})


class RollsBackErrorsOfSqlite(Adds):
    class kind(Adds.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def failed(self, error: BaseException) -> None:
            if isinstance(error, sqlite3.Error):
                super().failed(error)


class InWal(RollsBackErrorsOfSqlite):
    configurations = others_stores.WAL

    class kind(RollsBackErrorsOfSqlite.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def set_up(self) -> None:
            self.db.execute("PRAGMA journal_mode = WAL").fetchall()
            super().set_up()


class Implicit(Adds):
    """Python begins the transaction of an INSERT, and nothing ends it where a constraint is broken."""

    class kind(others_stores.Shelf):  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.db.isolation_level = ""

        def add(self, key: str) -> None:
            self.db.execute("INSERT INTO item VALUES (?, 1)", (key,))
            self.db.commit()


class ByRead(Adds):
    """Begins to read only: that keeps no other writer out."""

    class kind(Adds.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def add(self, key: str) -> None:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self.db.execute("BEGIN")
            if self.db.execute("SELECT 1 FROM item WHERE key = ?", (key,)).fetchall():
                raise TakenError(key)
            self.db.execute("ROLLBACK")
            self.put(key)


class Unit(Adds):
    """The caller begins and ends the transaction; a refused call inside it has not begun it."""

    class kind(RollsBackErrorsOfSqlite.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def begin(self) -> None:
            self.db.execute("BEGIN IMMEDIATE")

        def commit(self) -> None:
            self.db.execute("COMMIT")

        def add(self, key: str) -> None:
            self.insert(key)


ADD = Call(Action("add", {"key": "a"}))
BEGIN, COMMIT = Call(Action("begin")), Call(Action("commit"))


def played(target: Any, home: Path, *steps: Any) -> Violation | None:
    return play(Scenario("store", target.configurations[0], steps), target(), home / "refused")[0]


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize("target", [RollsBackErrorsOfSqlite, InWal, Implicit])
def test_a_refused_call_that_leaves_a_transaction_open_is_found(target: Any, home: Path) -> None:
    violation = played(target, home, ADD, ADD)
    assert violation is not None
    assert violation.code == "still-usable-after-the-fault"
    assert "add(key='a') was refused without any fault, and leaves a transaction open" in violation.message


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize("target", [Adds, ByRead])
def test_a_refused_call_that_keeps_no_writer_out_is_none(target: Any, home: Path) -> None:
    assert played(target, home, ADD, ADD, ADD) is None


@pytest.mark.usefixtures("shim")
def test_what_a_caller_has_begun_is_not_the_refused_calls(home: Path) -> None:
    assert played(Unit, home, ADD, BEGIN, ADD, COMMIT) is None
    with pytest.raises(TargetError, match="fails without any fault"):
        played(Unit, home, ADD, BEGIN, ADD, BEGIN)


@pytest.mark.usefixtures("shim")
def test_of_a_store_for_one_caller_the_next_call_has_to_work(home: Path) -> None:
    class Alone(RollsBackErrorsOfSqlite):
        callers = ()

    class AloneAndImplicit(Implicit):
        callers = ()

    violation = played(Alone, home, ADD, ADD, Call(Action("add", {"key": "b"})))
    assert violation is not None
    assert violation.code == "still-usable-after-the-fault"
    assert "after a call that was refused without any fault; without that one it works" in violation.message
    assert played(AloneAndImplicit, home, ADD, ADD, Call(Action("add", {"key": "b"}))) is None
    # The call that is refused without a fault is not refused, but fails by one.
    violation = played(Alone, home, ADD, Arm("lock:db@1=BUSY"), ADD, Clear(), Call(Action("add", {"key": "b"})))
    assert "after a call that was refused" in str(violation)


@pytest.mark.usefixtures("shim")
def test_before_a_search_it_is_no_broken_rule_of_the_target(home: Path) -> None:
    assert not require_contract(RollsBackErrorsOfSqlite(), others_stores.DELETE[0], home)
    assert require_contract(Adds(), others_stores.DELETE[0], home / "sound")


def test_the_sweep_makes_calls_that_are_refused(search: Search) -> None:
    codes = [one.finding.message for one in search(Implicit(), points=1).findings]
    assert [one for one in codes if "was refused without any fault" in one]
    assert not search(Adds(), points=1).findings


@pytest.mark.usefixtures("shim")
def test_a_refused_call_that_has_changed_something_is_told_with_its_change(home: Path) -> None:
    class Counts(Adds):
        class kind(Adds.kind):  # type: ignore[name-defined, misc]  # noqa: N801
            def failed(self, error: BaseException) -> None:
                self.db.execute("UPDATE item SET value = value + 1")
                self.db.execute("COMMIT")

    with pytest.raises(TargetError, match="TakenError: a, and has changed something: a: the state before has 1, that"):
        played(Counts, home, ADD, ADD)


class Pairs(others_stores.ShelfTarget):
    """Takes the first three rows apart, and fails where there are fewer."""

    class kind(others_stores.Shelf):  # noqa: N801
        def middle(self) -> Any:
            rows = self.db.execute("SELECT key FROM item ORDER BY key LIMIT 3").fetchall()
            return (rows[1] if len(rows) == 3 else None)[0]  # type: ignore[index]

    configurations = (Configuration("delete", "FULL"),)
    calls = (
        *(Action("put", {"key": key}) for key in "abc"),
        Action("middle"),
    )


@pytest.mark.usefixtures("shim")
def test_a_call_makes_no_sense_either_where_a_crash_has_undone_the_one_before_it(home: Path) -> None:
    puts = [Call(one) for one in Pairs.calls]
    for after in range(1, 30):
        assert played(Pairs, home / f"{after}", puts[0], CrashAt(after), puts[1], puts[3]) is None


class Settles(others_stores.ShelfTarget):
    """Two databases: what the first one has is noted in the second one."""

    class kind(others_stores.Shelf):  # noqa: N801
        def set_up(self) -> None:
            self.other = sqlite3.connect(f"{self.path}.other", isolation_level=None)
            for db in (self.db, self.other):
                db.execute("PRAGMA journal_mode = WAL").fetchall()
                db.execute("PRAGMA synchronous = FULL")
                db.execute(self.schema)

        def add(self, key: str) -> None:
            self.db.execute("INSERT INTO item VALUES (?, 1)", (key,))

        def settle(self) -> None:
            for (key,) in self.db.execute("SELECT key FROM item ORDER BY key").fetchall():
                self.other.execute("INSERT OR IGNORE INTO item VALUES (?, 1)", (key,))

        def close(self) -> None:
            self.other.close()
            super().close()

    configurations = others_stores.WAL
    calls: Any = (ADD.action, Action("add", {"key": "b"}), Action("settle"))
    beat = Action("add", {"key": "beat"})


@pytest.mark.usefixtures("shim")
def test_a_call_is_refused_by_what_the_store_has_and_not_by_what_only_a_crash_brings_back(home: Path) -> None:
    add, other, settle = map(Call, Settles.calls)
    assert played(Settles, home, add, Arm("sync:wal@1..=IOERR_FSYNC"), other, settle, other) is None


@pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
def test_of_a_program_the_lock_that_its_refused_call_leaves_is_enough(home: Path, shim: object) -> None:
    speaking = str(Path(__file__).with_name("speaking_stores.py"))
    for mode, is_found in (("leaves-it-open", True), ("right", False)):
        with ProcessTarget((sys.executable, speaking, mode), mode) as target:
            put, move, _ = map(Call, target.workload())
            scenario = Scenario(target.name, target.configurations[0], (put, move, put, move))
            violation = play(scenario, target, home / mode)[0]
        said = "" if violation is None else violation.message
        assert (
            "move(key='a', to='b') was refused without any fault, and leaves a transaction open" in said
        ) == is_found
