"""The markers interleave and every_cancel: races and cut-short calls are found, sound code passes, misuse is told."""

import textwrap
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

STORE = """
import asyncio
import sqlite3

import pytest

pytest_plugins = ("pytester",)


class Jobs:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS job (id, owner)")

    def add(self, name):
        self.db.execute("INSERT INTO job VALUES (?, NULL)", (name,))

    def claim(self, worker):
        row = self.db.execute("SELECT id FROM job WHERE owner IS NULL").fetchone()
        if row is not None:
            self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, row[0]))
            return row[0]

    def claim_at_once(self, worker):
        rows = self.db.execute(
            "UPDATE job SET owner = ? WHERE id = (SELECT id FROM job WHERE owner IS NULL) RETURNING id", (worker,)
        ).fetchall()
        return rows[0][0] if rows else None

    def add_two(self, undone=BaseException):
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.add("a")
            self.add("b")
            self.db.execute("COMMIT")
        except undone:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise


@pytest.fixture
def two(tmp_path):
    both = Jobs(tmp_path / "jobs.db"), Jobs(tmp_path / "jobs.db")
    both[0].add("a")
    yield both
    for one in both:
        one.db.close()
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def ran(test: str) -> pytest.RunResult:
        (pytester.path / "test_it.py").write_text(STORE + textwrap.dedent(test))
        return pytester.runpytest_inprocess(
            "-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider", "--import-mode=importlib"
        )

    return ran


def test_a_race_is_found_and_the_sound_claim_passes(run) -> None:
    done = run(
        """
        @pytest.mark.interleave
        @pytest.mark.parametrize("name", ["claim", "claim_at_once"])
        def test_claim(two, callers, name):
            got = callers(lambda: getattr(two[0], name)("one"), lambda: getattr(two[1], name)("two"))
            assert sorted(got, key=str) == [None, "a"]
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*schedule * of *: [[]A[]] up to shmlock *, at test_it.py:*UPDATE job*"])
    done.stdout.fnmatch_lines(["*test_claim[[]claim_at_once[]]: * schedules*"])


def test_it_is_said_that_a_pools_connection_is_switched_at_calls_alone(run) -> None:
    done = run(
        """
        import threading

        class Pool:
            def __init__(self, path):
                self.path, self.free = path, []

            def add(self, name):
                db = self.free.pop() if self.free else sqlite3.connect(self.path, isolation_level=None)
                try:
                    db.execute("INSERT INTO job VALUES (?, NULL)", (name,))
                finally:
                    self.free.append(db)

        @pytest.mark.interleave
        @pytest.mark.parametrize("lends", ["one", "two", "shared", "locked"])
        def test_add(two, callers, lends):
            path = two[0].db.execute("PRAGMA database_list").fetchone()[2]
            if lends == "locked":
                lock = threading.Lock()
                def add(name):
                    with lock:
                        two[0].add(name)
                callers(lambda: add("x"), lambda: add("y"))
                return
            pools = [Pool(path), Pool(path)] if lends == "two" else [Pool(path)] * 2
            if lends == "shared":
                callers(lambda: two[0].add("x"), lambda: two[0].add("y"))
                return
            callers(lambda: pools[0].add("x"), lambda: pools[1].add("y"))
            for pool in pools:
                while pool.free:
                    pool.free.pop().close()
        """
    )
    done.assert_outcomes(passed=4)
    said = [line for line in done.outlines if "schedules" in line]
    assert ["a connection that a pool lent to one after the other" in line for line in said] == [True, *[False] * 3]
    assert ["at calls into a connection that both used" in line for line in said] == [False, False, True, True]
    assert ["the other one never called into it" in line for line in said] == [False, False, False, True]


def test_callables_are_switched_at_operations_on_the_tests_plain_files(run) -> None:
    done = run(
        """
        import fcntl

        @pytest.mark.interleave
        @pytest.mark.parametrize("locked", [True, False])
        def test_count(tmp_path, callers, locked):
            path = tmp_path / "n.txt"
            path.write_text("0")
            def add():
                with open(tmp_path / "lock", "w") as lock:
                    if locked:
                        fcntl.flock(lock, fcntl.LOCK_EX)
                    n = int(path.read_text())
                    path.write_text(str(n + 1))
            callers(add, add)
            assert path.read_text() == "2"
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*up to file-open 3, at test_*py:*: path.write_text(str(n + 1)); *B* to its end*"])


def test_coroutines_are_switched_at_their_awaits(run) -> None:
    done = run(
        """
        @pytest.mark.interleave
        @pytest.mark.parametrize("is_made", [True, False])
        @pytest.mark.parametrize("locked", [True, False])
        def test_count(callers, locked, is_made):
            have = {"n": 0}
            async def add():
                n = have["n"]
                await asyncio.sleep(0)
                have["n"] = n + 1
            async def sound():
                await asyncio.sleep(0)
                have["n"] += 1
            async def main():
                one, other = [sound if locked else add] * 2
                await (callers(one(), other()) if is_made else callers(one, other))
            asyncio.run(main())
            assert have["n"] == 2
        """
    )
    done.assert_outcomes(passed=2, failed=2)
    done.stdout.fnmatch_lines(["*A up to its await 1, then the other one*"])


def test_coroutines_are_switched_at_the_awaits_of_their_tasks(run) -> None:
    done = run(
        """
        async def in_a_group(work):
            async with asyncio.TaskGroup() as group:
                group.create_task(work)

        @pytest.mark.interleave
        @pytest.mark.parametrize("began", [lambda work: asyncio.wait_for(work, 60), asyncio.gather, in_a_group])
        @pytest.mark.parametrize("in_one", [True, False])
        def test_count(two, callers, began, in_one):
            async def run(*statement):
                return await asyncio.to_thread(lambda: two[0].db.execute(*statement).fetchone())
            async def add():
                if in_one:
                    await run("UPDATE job SET owner = coalesce(owner, 0) + 1")
                else:
                    n, = await run("SELECT coalesce(owner, 0) FROM job")
                    await run("UPDATE job SET owner = ?", (n + 1,))
            async def call():
                await began(add())
            async def main():
                await callers(call, lambda: call())
            asyncio.run(main())
            assert two[1].db.execute("SELECT owner FROM job").fetchall() == [(2,)]
        """
    )
    done.assert_outcomes(passed=3, failed=3)
    assert not [line for line in done.stdout.lines if line.startswith("FAILED") and "True" in line]


def test_a_worker_that_one_call_has_begun_serves_the_other_one_while_that_call_stands(run) -> None:
    done = run(
        """
        class Store:
            def __init__(self):
                self.queue, self.worker, self.disk, self.cache, self.puts = asyncio.Queue(), None, 1, None, 0
            async def work(self):
                while True:
                    value, done = await self.queue.get()
                    await asyncio.sleep(0)
                    self.disk = value or self.disk
                    done.set_result(self.disk)
            async def ask(self, value=None):
                self.worker = self.worker or asyncio.ensure_future(self.work())
                done = asyncio.get_running_loop().create_future()
                self.queue.put_nowait((value, done))
                return await done
            async def get(self, looks_again):
                puts = self.puts
                value = self.cache or await self.ask()
                # Or the value from before the other one's change stays in the cache.
                if not looks_again or puts == self.puts:
                    self.cache = value
                return value
            async def put(self, value):
                await self.ask(value)
                self.puts, self.cache = self.puts + 1, None

        @pytest.mark.interleave
        @pytest.mark.parametrize("looks_again", [True, False])
        def test_put(callers, looks_again):
            async def main():
                store = Store()
                await callers(lambda: store.get(looks_again), lambda: store.put(2))
                assert await store.get(looks_again) == 2
                store.worker.cancel()
            asyncio.run(main())
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["FAILED *test_put?False?*"])


def test_a_call_that_is_cut_short_leaves_no_transaction(run) -> None:
    done = run(
        """
        @pytest.mark.every_cancel
        @pytest.mark.parametrize("undone", [Exception, BaseException])
        def test_add(two, cancelled, undone):
            cancelled(lambda: two[0].add_two(undone))
            assert two[1].db.execute("SELECT count(*) FROM job").fetchone()[0] in (1, 3)

        class Timeout(Exception):
            pass

        @pytest.mark.every_cancel(raising=Timeout)
        def test_timeout(two, cancelled):
            cancelled(lambda: two[0].add_two(Exception))
        """
    )
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*KeyboardInterrupt at its call 2 into sqlite3: a transaction is left open*"])


def test_what_a_with_block_of_the_connection_does_is_not_cut_short(run) -> None:
    done = run(
        """
        def add(db, names):
            with db:
                for name in names:
                    db.execute("INSERT INTO job VALUES (?, NULL)", (name,))

        def half(db, names):
            with db:
                db.execute("INSERT INTO job VALUES (?, NULL)", (names[0],))
            db.execute("INSERT INTO job VALUES (?, NULL)", (names[1],))
            db.commit()

        @pytest.mark.every_cancel
        @pytest.mark.parametrize("how", [add, half])
        def test_add(two, cancelled, how, tmp_path):
            db = sqlite3.connect(two[0].db.execute("PRAGMA database_list").fetchone()[2])
            cancelled(lambda: how(db, ["x", "y"]))
            in_all, = two[1].db.execute("SELECT count(*) FROM job WHERE id IN ('x', 'y')").fetchone()
            db.close()
            assert in_all != 1
        """
    )
    done.assert_outcomes(passed=1, failed=1)


def test_a_task_is_cancelled_at_each_await(run) -> None:
    done = run(
        """
        @pytest.mark.every_cancel
        @pytest.mark.parametrize("how", ["bare", "waited_for", "shielded", "shielded_and_open"])
        def test_put(two, cancelled, how):
            async def put():
                await asyncio.to_thread(two[0].db.execute, "BEGIN IMMEDIATE")
                try:
                    await asyncio.to_thread(two[0].add, "b")
                    await asyncio.to_thread(two[0].db.execute, "COMMIT")
                except Exception:
                    two[0].db.execute("ROLLBACK")
                    raise
            async def shielded():
                task = asyncio.ensure_future(put())
                try:
                    await asyncio.shield(task)
                except asyncio.CancelledError:
                    await asyncio.wait([task])
                    raise
            async def in_background():
                await asyncio.shield(put())
            async def forgets():
                async def begin():
                    await asyncio.to_thread(two[0].db.execute, "BEGIN IMMEDIATE")
                    await asyncio.sleep(0)
                await asyncio.shield(begin())
                two[0].db.execute("COMMIT")
            async def main():
                works = {"bare": put, "waited_for": shielded, "shielded": in_background, "shielded_and_open": forgets}
                await cancelled(works[how]())
            asyncio.run(main())
        """
    )
    done.assert_outcomes(passed=2, failed=2)
    left = "cancelled at its await 1: a transaction is left open, and every other writer*locked*"
    done.stdout.fnmatch_lines([f"*{left}", f"*{left}"])
    done.stdout.fnmatch_lines(["*test_put[[]bare[]]*", "*test_put[[]shielded_and_open[]]*"])


def test_tasks_of_the_call_are_cancelled_with_it_at_each_of_their_awaits(run) -> None:
    done = run(
        """
        async def in_a_group(work):
            async with asyncio.TaskGroup() as group:
                group.create_task(work)

        @pytest.mark.every_cancel
        @pytest.mark.parametrize("began", [lambda work: asyncio.wait_for(work, 60), asyncio.gather, in_a_group])
        @pytest.mark.parametrize("undone", [BaseException, Exception])
        def test_put(two, cancelled, began, undone):
            async def put():
                # Cancelled here nothing is lost, and nothing is open.
                await asyncio.sleep(0)
                two[0].db.execute("BEGIN IMMEDIATE")
                try:
                    await asyncio.to_thread(two[0].add, "b")
                    two[0].db.execute("COMMIT")
                except undone:
                    two[0].db.execute("ROLLBACK")
                    raise
            async def main():
                async def works():
                    await began(put())
                await cancelled(works())
            asyncio.run(main())
        """
    )
    done.assert_outcomes(passed=3, failed=3)
    assert not [line for line in done.stdout.lines if line.startswith("FAILED") and "BaseException" in line]


def test_what_a_pool_has_begun_is_cancelled_after_it_has_run(run) -> None:
    # anyio's threads drop a call that is cancelled before they begin it; a real one may have begun.
    pytest.importorskip("anyio")
    done = run(
        """
        import anyio
        from anyio.to_thread import run_sync

        @pytest.mark.every_cancel
        @pytest.mark.parametrize("sound", [False, True])
        def test_put(two, cancelled, sound):
            async def put():
                if not sound:
                    await run_sync(two[0].db.execute, "BEGIN IMMEDIATE")
                try:
                    if sound:
                        await run_sync(two[0].db.execute, "BEGIN IMMEDIATE")
                    await run_sync(two[0].add, "b")
                    await run_sync(two[0].db.execute, "COMMIT")
                except BaseException:
                    if two[0].db.in_transaction:
                        two[0].db.execute("ROLLBACK")
                    raise
            async def main():
                await cancelled(put())
            asyncio.run(main())
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*cancelled at its await *: a transaction is left open, and every other writer*locked*"])
    done.stdout.fnmatch_lines(["*FAILED*test_put[[]False[]]*"])


def test_misuse_is_told_in_a_line(run) -> None:
    done = run(
        """
        @pytest.mark.interleave
        def test_never_called(callers):
            pass

        def test_not_marked(callers):
            pass

        @pytest.mark.interleave
        def test_no_points(callers):
            callers(lambda: 1, lambda: 2)

        @pytest.mark.interleave(preemptions=2)
        def test_arguments(callers):
            callers(lambda: 1, lambda: 2)

        @pytest.mark.every_cancel(raising=3)
        def test_no_error(cancelled):
            cancelled(lambda: 1)

        @pytest.mark.interleave
        def test_tied(tmp_path, callers):
            db = sqlite3.Connection(tmp_path / "t.db")
            try:
                callers(lambda: db.execute("SELECT 1"), lambda: db.execute("SELECT 2"))
            finally:
                db.close()
        """
    )
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*test_never_called is marked interleave and never called its fixture `callers`*"])
    text = done.stdout.str()
    assert "the fixture `callers` is for tests that are marked @pytest.mark.interleave" in text
    assert "no point at which it could be switched: no lock is taken, no plain file is opened, nothing is" in text
    assert "interleave takes no arguments" in text
    assert "every_cancel takes one argument by name: raising, a class of exceptions" in text
    assert "the two callables share a connection that is tied to a thread" in text


def test_two_callables_on_one_connection_are_switched_at_their_calls_into_it(run) -> None:
    """At a lock the one that stands would hold the connection's mutex, and the other one could never come between."""
    done = run(
        """
        import threading

        class Shared(Jobs):
            lock = threading.RLock()

            def two_rows(self, undone):
                self.db.execute("BEGIN IMMEDIATE") if not self.db.in_transaction else None
                self.add("x")
                if undone:
                    return self.db.rollback()
                self.add("y")
                self.db.commit()

            def two_rows_locked(self, undone):
                with self.lock:
                    self.two_rows(undone)

            def claim_with_cursor(self, worker):
                cursor = self.db.cursor()
                row = cursor.execute("SELECT id FROM job WHERE owner IS NULL").fetchone()
                if row is not None:
                    cursor.execute("UPDATE job SET owner = ?", (worker,))
                    return row[0]

        @pytest.fixture
        def shared(tmp_path):
            jobs = Shared(tmp_path / "jobs.db")
            yield jobs
            jobs.db.close()

        @pytest.mark.interleave
        @pytest.mark.parametrize("name", ["two_rows", "two_rows_locked"])
        def test_half_of_it(shared, callers, name):
            callers(lambda: getattr(shared, name)(False), lambda: getattr(shared, name)(True))
            assert shared.db.execute("SELECT id FROM job ORDER BY id").fetchall() == [("x",), ("y",)]

        @pytest.mark.interleave
        @pytest.mark.parametrize("name", ["claim_with_cursor", "claim_at_once"])
        def test_claim(shared, callers, name):
            shared.add("a")
            claim = getattr(shared, name)
            assert sorted(callers(lambda: claim("one"), lambda: claim("two")), key=str) == [None, "a"]
        """
    )
    done.assert_outcomes(passed=2, failed=2)
    text = done.stdout.str()
    assert "FAILED test_it.py::test_half_of_it[two_rows]" in text
    assert "FAILED test_it.py::test_claim[claim_with_cursor]" in text
    assert "[A] up to fetchone 3, at test_it.py" in text


def test_a_thread_of_a_callables_own_waits_for_the_other_callable(run) -> None:
    """In a rollback journal the one that commits waits for the reader that stands, and then the reader for it."""
    done = run(
        """
        import threading

        def in_a_thread(work):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

        class InARollbackJournal(Jobs):
            def __init__(self, path):
                self.db = sqlite3.connect(path, isolation_level=None)
                self.db.execute("CREATE TABLE IF NOT EXISTS job (id, owner)")

        @pytest.mark.interleave
        @pytest.mark.parametrize("name", ["claim_at_once", "claim"])
        def test_claim(tmp_path, callers, name):
            one, two = (InARollbackJournal(tmp_path / "a.db") for _ in range(2))
            one.add("a")
            got = []
            def claim(jobs, worker):
                in_a_thread(lambda: got.append(getattr(jobs, name)(worker)))
            callers(lambda: claim(one, "one"), lambda: claim(two, "two"))
            one.db.close()
            two.db.close()
            assert sorted(got, key=str) == [None, "a"]
        """
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*FAILED *test_claim[[]claim[]]*"])


@pytest.mark.slow
def test_a_deadlock_of_two_callables_is_told_with_both_places(run, tmp_path: Path) -> None:
    done = run(
        """
        import threading

        @pytest.mark.interleave
        def test_locks(two, callers):
            first, second = threading.Lock(), threading.Lock()
            def one():
                with first:
                    two[0].add("x")
                    with second:
                        pass
            def other():
                with second:
                    two[1].add("y")
                    with first:
                        pass
            callers(one, other)
        """
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*deadlock: *wait for each other: A at test_it.py*; B at test_it.py*"])
