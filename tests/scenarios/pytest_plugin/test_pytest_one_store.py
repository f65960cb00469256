"""The marker ``interleave`` on one store in two threads: what it keeps in memory, and what one waits for."""

import textwrap
from collections.abc import Callable

import pytest

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.usefixtures("collected")

STORE = """
import contextlib
import sqlite3
import threading

import pytest


class Store:
    def __init__(self, path, lock):
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("CREATE TABLE IF NOT EXISTS job (id)")
        self.lock, self.filled = lock, threading.Condition()
        self.cache = {}

    def add(self, name):
        with self.filled:
            self.db.execute("INSERT INTO job VALUES (?)", (name,))
            self.filled.notify()

    def read(self, name):
        with self.lock:
            for (found,) in self.db.execute("SELECT id FROM job WHERE id = ?", (name,)):
                self.cache[name] = found

    def remove(self, name):
        with self.lock:
            self.db.execute("DELETE FROM job WHERE id = ?", (name,))
            self.cache.pop(name, None)

    def count(self):
        return self.db.execute("SELECT count(*) FROM job").fetchone()[0]

    def wait(self):
        with self.filled:
            if not self.count():
                self.filled.wait()

    def wait_racy(self):
        if not self.count():
            with self.filled:
                self.filled.wait()

    def pop(self, limit_s):
        with self.filled:
            found = self.db.execute("SELECT id FROM job").fetchone()
            if found is None and self.filled.wait(limit_s):
                found = self.db.execute("SELECT id FROM job").fetchone()
            if found is not None:
                self.db.execute("DELETE FROM job WHERE id = ?", found)
            return found


@pytest.fixture(params=["sound", "racy"])
def store(tmp_path, request):
    made = Store(tmp_path / "a.db", threading.Lock() if request.param == "sound" else contextlib.nullcontext())
    yield made
    made.db.close()
"""

Ran = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Ran:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def ran(test: str) -> pytest.RunResult:
        (pytester.path / "test_it.py").write_text(STORE + textwrap.dedent(test))
        return pytester.runpytest_inprocess(
            "-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider", "--import-mode=importlib"
        )

    return ran


def test_a_cache_that_is_filled_after_the_removal_is_found_at_the_return_of_the_read(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        def test_read(store, callers):
            store.add("a")
            callers(lambda: store.read("a"), lambda: store.remove("a"))
            assert not store.cache
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*schedule * of *: [[]A[]] after execute 1, at test_it.py:*SELECT*"])
    done.stdout.fnmatch_lines(["*FAILED*test_read[[]racy[]]*"])


@pytest.mark.slow
def test_a_lost_wakeup_is_a_deadlock(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        def test_wait(store, callers, request):
            wait = store.wait_racy if "racy" in request.node.name else store.wait
            callers(wait, lambda: store.add("a"))
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["deadlock: A is blocked, and B has ended: A at test_it.py:*: self.filled.wait()"])


def test_two_that_wait_for_a_job_with_a_time_limit_are_no_deadlock(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        @pytest.mark.parametrize("store", ["sound"], indirect=True)
        def test_nothing_comes(store, callers):
            assert callers(lambda: store.pop(1000), lambda: store.pop(2000)) == [None, None]

        @pytest.mark.interleave
        @pytest.mark.parametrize("store", ["sound"], indirect=True)
        def test_one_comes(store, callers):
            got, _ = callers(lambda: store.pop(1000), lambda: store.add("a"))
            assert got == ("a",)
        """
    )
    done.assert_outcomes(passed=2)
