"""The markers interleave and every_cancel as guests of pytest: what a test may be, and what it leaves behind."""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

# What these tests leave open is closed by the garbage collector, maybe in a later session of the same process: from
# Python 3.13 on, that is a warning.
pytestmark = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
]

STORE = """
import asyncio
import contextlib
import os
import sqlite3
from sqlite3 import connect

import pytest


class Count:
    def __init__(self, database, **options):
        self.db = sqlite3.connect(database, isolation_level=None, **options)
        self.db.execute("CREATE TABLE IF NOT EXISTS t (n)")
        if self.get() is None:
            self.db.execute("INSERT INTO t VALUES (0)")

    def get(self):
        row = self.db.execute("SELECT n FROM t").fetchone()
        return row and row[0]

    def add(self):
        self.db.execute("UPDATE t SET n = n + 1")

    def add_racy(self):
        n = self.get()
        self.db.execute("UPDATE t SET n = ?", (n + 1,))

    def add_in_a_transaction(self, undone=BaseException, begin="BEGIN IMMEDIATE"):
        self.db.execute(begin)
        try:
            self.get()
            if begin == "BEGIN IMMEDIATE":
                self.add()
            self.db.execute("COMMIT")
        except undone:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise


@pytest.fixture
def two(tmp_path):
    both = Count(tmp_path / "a.db"), Count(tmp_path / "a.db")
    yield both
    for one in both:
        one.db.close()


@pytest.fixture(scope="module")
def of_the_module(tmp_path_factory):
    count = Count(tmp_path_factory.mktemp("module") / "a.db")
    yield count
    count.db.close()
"""

Ran = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Ran:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def ran(test: str, *arguments: str) -> pytest.RunResult:
        (pytester.path / "test_it.py").write_text(STORE + textwrap.dedent(test))
        return pytester.runpytest_inprocess(
            "-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider", "--import-mode=importlib",
            *arguments,
        )  # fmt: skip

    return ran


# -- as pytest does without the marker ----------------------------------------------------------------------


def test_a_known_race_is_expected_to_fail_and_a_fixed_one_passes_unexpectedly(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        @pytest.mark.parametrize("name", ["add_racy", "add"])
        @pytest.mark.parametrize("strict", [
            pytest.param(strict, marks=pytest.mark.xfail(strict=strict)) for strict in (False, True)
        ])
        def test_add(two, callers, name, strict):
            callers(getattr(two[0], name), getattr(two[1], name))
            assert two[0].get() == 2
        """
    )
    done.assert_outcomes(xfailed=2, xpassed=1, failed=1)
    done.stdout.fnmatch_lines(["*XPASS(strict)*"])


def test_a_skip_at_a_switch_proves_nothing(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        def test_add(two, callers):
            callers(two[0].add_racy, two[1].add_racy)
            if two[0].get() != 2:
                pytest.skip("not today")
        """
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*schedule * of *up to lock *: the test skips there (not today), which proves nothing*"])


def test_each_run_has_an_instance_fixtures_and_records_of_its_own(run: Ran) -> None:
    done = run(
        """
        class TestAdd:
            @pytest.fixture(autouse=True)
            def opened(self, two):
                assert not hasattr(self, "two")
                self.two = two

            @pytest.mark.interleave
            def test_add(self, callers, record_property, capsys):
                record_property("seen", 1)
                print("one")
                callers(self.two[0].add, self.two[1].add)
                assert self.two[0].get() == 2
                assert capsys.readouterr().out == "one\\n"
        """,
        "--junitxml=junit.xml",
        "-o",
        "junit_family=xunit1",
    )
    done.assert_outcomes(passed=1)
    assert Path("junit.xml").read_text().count('"seen"') == 1


@pytest.mark.parametrize("marker", ["interleave", "every_cancel"])
def test_a_failing_teardown_of_a_wider_fixture_is_an_error_of_the_test_and_the_next_one_runs(
    run: Ran, marker: str
) -> None:
    done = run(
        f"""
        @pytest.fixture(scope="class")
        def broken():
            yield
            raise RuntimeError("the end of it")

        class TestIt:
            @pytest.mark.{marker}
            def test_add(self, two, broken, request):
                if "{marker}" == "interleave":
                    request.getfixturevalue("callers")(two[0].add, two[1].add)
                else:
                    request.getfixturevalue("cancelled")(two[0].add)

        def test_next():
            pass
        """
    )
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["*ERROR at teardown of TestIt.test_add*", "*RuntimeError: the end of it*"])


def test_hooks_that_make_reports_find_the_fixtures_and_one_that_fails_ends_no_session(
    run: Ran, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest("""
        import pytest

        made = []

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            made.append(str(item.funcargs["tmp_path"]))
            if len(made) == 30:
                raise ZeroDivisionError("a hook of somebody")
            return report
    """)
    done = run(
        """
        @pytest.fixture(scope="class")
        def broken():
            yield
            raise RuntimeError("the end of it")

        class TestIt:
            @pytest.mark.interleave
            def test_add(self, two, broken, callers, tmp_path):
                callers(two[0].add_racy, two[1].add)
                assert two[0].get() == 2

        @pytest.mark.interleave
        def test_sound(two, callers, tmp_path):
            callers(two[0].add, two[1].add)

        def test_next(tmp_path):
            pass
        """
    )
    done.assert_outcomes(failed=2, passed=1, errors=1)
    done.stdout.fnmatch_lines(["*internal error in tornpage, or in a hook that it called*", "*ZeroDivisionError: *"])


def test_only_setups_run_if_only_they_are_asked_for(run: Ran) -> None:
    test = """
        @pytest.mark.interleave
        def test_add(two, callers):
            raise AssertionError
        """
    done = run(test, "--setup-only")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*SETUP    F callers*"])


def test_a_test_has_one_marker_that_runs_it_again(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        @pytest.mark.every_fault
        def test_add(two, callers):
            callers(two[0].add, two[1].add)
        """
    )
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*a test has one of the markers interleave and every_fault; write a test for each"])


def test_a_test_that_passes_only_once_is_not_the_fault_of_a_switch(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        def test_add(of_the_module, two, callers):
            callers(two[0].add, two[1].add)
            of_the_module.add()
            assert of_the_module.get() == 1
        """
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*fails when it is run again without any switch: some state stays*"])
    assert "up to lock" not in done.stdout.str()


def test_a_test_takes_as_long_as_all_of_its_runs(run: Ran) -> None:
    run(
        """
        import threading

        @pytest.mark.interleave
        def test_add(two, callers):
            threading.Event().wait(0.01)
            callers(two[0].add, two[1].add)
        """,
        "--junitxml=junit.xml",
    )
    took = re.search(r'name="test_add" time="([0-9.]+)"', Path("junit.xml").read_text())
    assert took is not None
    assert float(took[1]) > 0.06


def test_a_schedule_says_with_which_error_a_callable_ended(run: Ran) -> None:
    done = run(
        """
        class Conflict(Exception):
            pass

        @pytest.mark.interleave
        def test_add(two, callers):
            def careful():
                n = two[0].get()
                if two[0].get() != n:
                    raise Conflict("another one was here")
            got = callers(careful, two[1].add, errors=(Conflict,))
            assert got[0] is None
        """
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*[[]A[]] to its end, with Conflict: another one was here*"])


# -- what a call that is cut short leaves ---------------------------------------------------------------------


@pytest.mark.parametrize("opened", [
    "Count(tmp_path / 'a.db')",
    "Count(f'file:{tmp_path}/a.db?mode=rwc', uri=True)",
    "Count(os.fsencode(tmp_path / 'a.db'))",
    "of_the_module",
    "ByName(tmp_path / 'a.db')",
])  # fmt: skip
def test_a_transaction_is_seen_however_its_connection_was_opened(run: Ran, opened: str) -> None:
    done = run(
        f"""
        class ByName(Count):
            def __init__(self, path):
                self.db = connect(path, isolation_level=None)
                self.db.execute("CREATE TABLE t (n)")

        @pytest.mark.every_cancel
        @pytest.mark.parametrize("undone", [BaseException, Exception])
        def test_add(tmp_path, of_the_module, cancelled, undone):
            count = {opened}
            cancelled(lambda: count.add_in_a_transaction(undone))
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines([
        "*[[]Exception[]]*", "*KeyboardInterrupt at its call 2 into sqlite3: a transaction is left open, and every*"
    ])  # fmt: skip


def test_a_transaction_that_has_only_read_is_seen_too(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.every_cancel
        @pytest.mark.parametrize("undone", [BaseException, Exception])
        def test_get(two, cancelled, undone):
            cancelled(lambda: two[0].add_in_a_transaction(undone, "BEGIN"))
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*a transaction is left open on a.db: its connection's next user is inside it"])


def test_what_was_open_before_the_call_is_not_its_own(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.every_cancel
        def test_same_connection(two, cancelled):
            two[0].db.execute("BEGIN IMMEDIATE")
            cancelled(two[0].add)

        @pytest.mark.every_cancel
        def test_call_that_never_commits(two, cancelled):
            cancelled(lambda: two[0].db.execute("BEGIN IMMEDIATE"))

        def test_left(tmp_path_factory):
            db = sqlite3.connect(tmp_path_factory.mktemp("left") / "left.db")
            globals()["left"] = db
            db.execute("CREATE TABLE t (n)")
            db.execute("INSERT INTO t VALUES (1)")

        @pytest.mark.every_cancel
        def test_beside_another_ones(two, cancelled):
            cancelled(two[0].add_in_a_transaction)
            left.close()
        """
    )
    done.assert_outcomes(passed=2, failed=2)
    text = done.stdout.str()
    assert "can't judge this call: a transaction is open on a.db before it begins; commit it first" in text
    assert "not even cut short: a transaction is left open" in text


def test_an_error_of_the_same_class_that_the_code_raises_itself_is_no_cut(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.every_cancel(raising=TimeoutError)
        def test_add(two, cancelled):
            def broken():
                two[0].add()
                raise TimeoutError("of the code's own")
            cancelled(broken)
        """
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["E*TimeoutError: of the code's own"])


def test_a_call_that_never_returns_when_it_is_cut_short_is_stopped(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.every_cancel
        def test_add(two, cancelled):
            def stubborn():
                while True:
                    with contextlib.suppress(KeyboardInterrupt):
                        return two[0].add() if not stopped else stopped[0].wait()
                    import threading
                    stopped.append(threading.Event())
            stopped = []
            cancelled(stubborn)
        """,
        "--tornpage-timeout=0.3",
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*still running after 0.3 s*", "*schedule 1 of *KeyboardInterrupt at its call*"])
    # It ends at the line that was stopped.
    assert "def _ring" not in done.stdout.str()


def test_a_coroutine_function_is_taken_for_its_coroutine(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.every_cancel
        @pytest.mark.parametrize("given", ["function", "coroutine", "lambda"])
        def test_add(two, cancelled, given):
            async def add():
                await asyncio.sleep(0)
                two[0].add()
            async def main():
                await cancelled({"function": add, "lambda": lambda: add()}.get(given) or add())
            asyncio.run(main())
        """
    )
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*cancelled: the callable returns a coroutine; pass the coroutine, and await*"])


# -- two coroutines --------------------------------------------------------------------------------------------

COROUTINES = """
    class Have:
        def __init__(self, path):
            self.path, self.lock = path, asyncio.Lock()

        async def call(self, db, *statement):
            return await asyncio.to_thread(lambda: db.execute(*statement).fetchone())

        async def add_racy(self, db, later=0):
            for _ in range(later):
                await asyncio.sleep(0)
            n, = await self.call(db, "SELECT n FROM t")
            await self.call(db, "UPDATE t SET n = ?", (n + 1,))

        async def add(self, db):
            await self.call(db, "UPDATE t SET n = n + 1")

        async def add_locked(self, db):
            async with self.lock:
                await self.add_racy(db)

        async def add_in_a_transaction(self, db):
            await self.call(db, "BEGIN IMMEDIATE")
            await self.add_racy(db)
            await self.call(db, "COMMIT")
"""


def test_coroutines_that_wait_for_each_other_take_turns(run: Ran) -> None:
    """On a lock of asyncio's, and in SQLite's busy handler: the one that has been stopped goes on."""
    done = run(
        COROUTINES
        + """
    @pytest.mark.interleave
    @pytest.mark.parametrize("name", ["add_locked", "add_in_a_transaction", "add_racy"])
    def test_add(two, callers, name, tmp_path):
        async def main():
            have = Have(tmp_path)
            add = getattr(have, name)
            assert await callers(lambda: add(two[0].db), lambda: add(two[1].db)) == [None, None]
        asyncio.run(main())
        assert two[0].get() == 2
        """
    )
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*FAILED *test_add[[]add_racy[]]*"])


def test_a_test_may_stop_the_clock_of_the_loop(run: Ran) -> None:
    done = run(
        COROUTINES
        + """
    @pytest.mark.interleave
    def test_add(two, callers, tmp_path, monkeypatch):
        monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda loop: 1.0)
        async def main():
            have = Have(tmp_path)
            await callers(lambda: have.add_locked(two[0].db), lambda: have.add_locked(two[1].db))
        asyncio.run(main())
        assert two[0].get() == 2
        """
    )
    done.assert_outcomes(passed=1)


@pytest.mark.parametrize("racy", ["first", "second"])
def test_each_await_of_the_second_coroutine_is_a_point_too(run: Ran, racy: str) -> None:
    done = run(
        COROUTINES
        + f"""
    @pytest.mark.interleave
    def test_add(two, callers, tmp_path):
        async def main():
            have = Have(tmp_path)
            late, one = lambda: have.add_racy(two[0].db, 9), lambda: have.add(two[1].db)
            await callers(*((late, one) if "{racy}" == "first" else (one, late)))
        asyncio.run(main())
        assert two[0].get() == 2
        """
    )
    done.assert_outcomes(failed=1)
    who = "A" if racy == "first" else "B"
    done.stdout.fnmatch_lines([f"*schedule * of *: {who} up to its await 1[01], then the other one*"])


def test_misuse_of_coroutines_is_told_in_a_line(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        def test_not_awaited(callers):
            async def one():
                pass
            async def main():
                callers(one, one).close()
            asyncio.run(main())

        @pytest.mark.interleave
        def test_none(callers):
            async def one():
                pass
            async def main():
                await callers(one(), None)
            asyncio.run(main())

        @pytest.mark.interleave
        def test_plain(callers):
            async def one():
                pass
            async def main():
                await callers(one, lambda: None)
            asyncio.run(main())

        @pytest.mark.interleave
        def test_failing(callers):
            async def one():
                await asyncio.sleep(0)
                pytest.fail("by itself")
            async def main():
                await callers(one, one)
            asyncio.run(main())
        """,
        "-W", "error", "-W", "ignore::pytest.PytestAssertRewriteWarning",
    )  # fmt: skip
    done.assert_outcomes(failed=4)
    text = done.stdout.str()
    assert "two callables or two coroutines, and <function test_plain" in text
    assert "is marked interleave and never awaited what `callers` returned" in text
    assert "callers takes two callables or two coroutines, not <coroutine object" in text
    assert "Failed: by itself" in text


@pytest.mark.slow
def test_a_deadlock_of_two_coroutines_is_told_with_both_places(run: Ran) -> None:
    done = run(
        """
        @pytest.mark.interleave
        def test_locks(callers):
            async def main():
                first, second = asyncio.Lock(), asyncio.Lock()
                async def one():
                    async with first:
                        await asyncio.sleep(0)
                        async with second:
                            pass
                async def other():
                    async with second:
                        await asyncio.sleep(0)
                        async with first:
                            pass
                await callers(one, other)
            asyncio.run(main())
        """
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*deadlock: A and B wait for each other: A at test_it.py:*second:; B at test_it.py:*first:*"]
    )
