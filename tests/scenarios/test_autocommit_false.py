"""``autocommit=False`` (Python 3.12) is judged like the other modes, by the marker and by every search.

A transaction is always open there, so an open one is no defect; and SQLite's own rollback leaves the connection outside
of any, which is.
"""

import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, SimpleTarget
from tornpage.scenarios.model.plan import Plan, Profile

# In the process from the start: pytester forgets what its runs import, and an audit hook can't be taken away.
from tornpage.scenarios.pytest_plugin import session  # noqa: F401 - as above
from tornpage.scenarios.pytest_plugin.rerun import transactions
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.recorder import Recorder

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has autocommit from Python 3.12 on")

# Three stores: the reported bug; one that is right; and one whose rollback is right, but not its next transaction.
STORES = """
    import sqlite3

    class Tasks:
        def __init__(self, path, **mode):
            self.db = sqlite3.connect(path, **mode)
            self.db.execute("CREATE TABLE IF NOT EXISTS tasks (name TEXT PRIMARY KEY)")
            self.db.commit()
            self.names = {name for (name,) in self.db.execute("SELECT name FROM tasks")}
            self.db.rollback()

        def write(self, sql, name):
            try:
                self.db.execute(sql, (name,))
                self.db.commit()
            except BaseException:
                self.end()
                raise

        def end(self):
            if self.db.in_transaction:
                self.db.rollback()

        def close(self):
            self.db.close()

    class Idiom(Tasks):
        def add(self, name):
            if name not in self.names:
                self.write("INSERT INTO tasks VALUES (?)", name)
                self.names.add(name)

        def delete(self, name):
            if name in self.names:
                self.write("DELETE FROM tasks WHERE name = ?", name)
                self.names.remove(name)

    class Right(Idiom):
        def end(self):
            super().end()
            if getattr(self.db, "autocommit", None) is False:
                self.db.autocommit = False

    class MemoryFirst(Right):
        def delete(self, name):
            if name in self.names:
                self.names.remove(name)
                self.write("DELETE FROM tasks WHERE name = ?", name)

"""
MODES = {
    "legacy": "",
    "none": "isolation_level=None",
    "false": "autocommit=False",
    "true": "autocommit=True",
    "immediate": "isolation_level='IMMEDIATE'",
}


@pytest.fixture
def swept(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Sweeps the life of a task in one of the stores."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(stores=STORES)
    pytester.syspathinsert()

    def swept_in(store: str, mode: str, marker: str) -> pytest.RunResult:
        pytester.makepyfile(
            test_it=f"""
            import pytest
            from stores import {store}

            @pytest.mark.{marker}
            def test_it(tmp_path):
                store = {store}(tmp_path / "tasks.db", {MODES[mode]})
                store.add("milk")
                store.delete("milk")
                store.close()
                store = {store}(tmp_path / "tasks.db", {MODES[mode]})
                assert store.names == set()
                store.close()
            """
        )
        plugin = ("-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider")
        return pytester.runpytest_inprocess(*plugin)

    return swept_in


@pytest.mark.quality
@pytest.mark.parametrize("mode", MODES)
def test_the_reported_bug_is_found_in_every_mode(swept: Callable[..., pytest.RunResult], mode: str) -> None:
    done = swept("MemoryFirst", mode, "every_fault(retry=True)")
    done.assert_outcomes(failed=1)
    # The same points in each of them.
    done.stdout.fnmatch_lines(
        ["write:journal@*=FULL: line 8 raised OperationalError: *, was executed again, and then AssertionError*",
         "every_fault: 1 test, 101 fault points: 101 fired, * 24 failed"]
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["none", "false"])
@pytest.mark.parametrize("marker", ["every_fault", "every_fault(retry=True)"])
def test_the_right_store_is_silent(swept: Callable[..., pytest.RunResult], mode: str, marker: str) -> None:
    done = swept("Right", mode, marker)
    done.assert_outcomes(passed=1)
    if "retry" in marker:
        # How many there are is SQLite's business: 79 with 3.40, 83 with 3.53.
        tried = re.search(r": (\d+) times the caller tried again", done.stdout.str())
        assert tried is not None
        assert int(tried.group(1)) > 70
        done.stdout.fnmatch_lines(["*: 4 points not judged by retry"])


def test_a_rollback_is_not_accused_of_the_transaction_that_follows_it(swept: Callable[..., pytest.RunResult]) -> None:
    swept("Idiom", "false", "every_fault").assert_outcomes(passed=1)


def test_a_connection_that_stands_outside_of_a_transaction_is_explained(
    swept: Callable[..., pytest.RunResult],
) -> None:
    done = swept("Idiom", "false", "every_fault(retry=True)")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*cannot commit - no transaction is active (with autocommit=False, SQLite's own rollback*"]
    )


@pytest.mark.parametrize("hidden", [False, True], ids=["asked of SQLite", "asked by another connection"])
def test_only_a_transaction_that_has_written_counts(
    tmp_path: Path, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hidden:
        monkeypatch.setattr(transactions, "_txn_state", lambda: None)
    db: Any = sqlite3.connect(tmp_path / "a.db", autocommit=False)  # type: ignore[call-arg]  # Python 3.12
    assert db.in_transaction
    assert not transactions.has_transaction(db)
    db.execute("CREATE TABLE t (x)")
    assert transactions.has_transaction(db)
    db.commit()
    db.execute("SELECT * FROM t").fetchall()
    assert not transactions.has_transaction(db)
    db.execute("INSERT INTO t VALUES (1)")
    transactions.put_right(db, may_roll_back=True)
    assert db.in_transaction
    assert not transactions.has_transaction(db)
    assert db.execute("SELECT * FROM t").fetchall() == []
    db.autocommit = True
    transactions.put_right(db, may_roll_back=True)
    assert not db.in_transaction
    db.close()
    assert not transactions.has_transaction(db)


# -- targets -----------------------------------------------------------------------------------------------


class GivesUp:
    """A store that closes a connection on which something has failed, and opens another when it is needed."""

    def __init__(self, path: Path) -> None:
        self.path, self.db = path, None
        self.run("CREATE TABLE IF NOT EXISTS t (x PRIMARY KEY)")

    def run(self, sql: str, *values: str) -> list[Any]:
        try:
            if self.db is None:
                self.db: Any = sqlite3.connect(self.path, autocommit=False)  # type: ignore[call-arg]  # Python 3.12
            rows = self.db.execute(sql, values).fetchall()
            self.db.commit()
        except BaseException:
            self.close_anyhow()
            raise
        return list(rows)

    def close_anyhow(self) -> None:
        db, self.db = self.db, None
        try:
            if db is not None:
                db.close()
        except (sqlite3.Error, MemoryError):
            pass

    def add(self, x: str) -> None:
        self.run("INSERT OR REPLACE INTO t VALUES (?)", x)

    def all(self) -> list[str]:
        return [x for (x,) in self.run("SELECT x FROM t")]

    def close(self) -> None:
        self.close_anyhow()


class GivesUpLate(GivesUp):
    """It believes what it was about to write."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.names = set(super().all())

    def add(self, x: str) -> None:
        self.names.add(x)
        super().add(x)

    def all(self) -> list[str]:
        return sorted(self.names)


class GivesUpTarget(SimpleTarget):
    title = "autocommit=False"
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("add", {"x": "a"}), Action("add", {"x": "b"}))
    beat = Action("add", {"x": "beat"})
    store: type[GivesUp] = GivesUp

    def make(self, path: Path, configuration: object, environment: object) -> GivesUp:
        return self.store(path)

    def view(self, store: GivesUp) -> dict[str, int]:
        return dict.fromkeys(store.all(), 1)

    def rows(self, connection: sqlite3.Connection) -> dict[str, int]:
        return {x: 1 for (x,) in connection.execute("SELECT x FROM t")}


class GivesUpLateTarget(GivesUpTarget):
    store = GivesUpLate


def searched(target: GivesUpTarget, name: str) -> Recorder:
    profile = Profile("test", None, 40, 0, 0, shrinks=False, limit_points=24)
    return run(target, Plan((name,), profile, report=None))


# Where BEGIN has no memory, `connect` raises and leaves it to the collector to close what it has opened.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", ["sweep", "limits", "contend"])
def test_each_search_holds_for_the_right_store(name: str) -> None:
    recorder = searched(GivesUpTarget(), name)
    assert not recorder.findings, recorder.findings
    assert recorder.count("fired") or recorder.count("contentions")


@pytest.mark.quality
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", ["sweep", "limits"])
def test_each_search_finds_the_one_that_is_not(name: str) -> None:
    recorder = searched(GivesUpLateTarget(), name)
    assert {found.finding.code for found in recorder.findings} == {"memory-equals-disk"}


def test_the_documents_examples_run(as_documented: Callable[..., None]) -> None:
    as_documented("autocommit-false.md")
