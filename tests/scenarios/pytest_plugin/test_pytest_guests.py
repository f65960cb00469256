"""The markers as guests in other people's sessions: their hooks, their connections, their threads, their other tests.

With the plugins themselves: tests/guests.
"""

import gc
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

# In the process from the start: pytester forgets what its runs import, and an audit hook can't be taken away.
from tornpage.scenarios.pytest_plugin import session, sweep  # noqa: F401 - as above
from tornpage.scenarios.pytest_plugin.rerun.connections import quiet
from tornpage.scenarios.pytest_plugin.rerun.limit import TookTooLongError, limit, limit_of

pytest_plugins = ["pytester"]

HEAD = """
    import asyncio, concurrent.futures, contextlib, os, sqlite3, tempfile, threading, time, unittest
    import pytest

    every_fault = pytest.mark.every_fault
"""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Whatever a project's modules have kept is gone with them; first to be set up, so last to end."""
    yield
    with quiet():
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)  # What pytest has put aside for a debugger.
        gc.collect()


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of its own, without other plugins."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    pytester.syspathinsert()
    return pytester


def run(project: pytest.Pytester, source: str, *arguments: str, conftest: str = "") -> pytest.RunResult:
    project.makepyfile(test_it=HEAD + source)
    if conftest:
        project.makeconftest(conftest)
    plugin = ("-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider", "--strict-markers")
    return project.runpytest_inprocess(*plugin, *arguments)


def counts(done: pytest.RunResult) -> dict[str, int]:
    """The numbers of the summary's line."""
    line = next(line for line in done.outlines if line.startswith("every_fault: "))
    found = re.findall(r"([\d,]+) ([a-z ]+)", line)
    return {name.replace("point", "points").replace("ss", "s"): int(number.replace(",", "")) for number, name in found}


# -- hooks of others ---------------------------------------------------------------------------------------

READS_FIXTURES = """
    import pytest

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item, call):
        report = yield
        # As pytest's own documentation shows it.
        report.sections.append(("home", str(item.funcargs["tmp_path"])))
        return report
"""

MADE_REPORTS_OF = {
    "a test that holds": ("sqlite3.connect(tmp_path / 'a.db').execute('CREATE TABLE t (x)')", {"passed": 1}),
    "one that fails under a fault": (
        """
        db = sqlite3.connect(tmp_path / 'a.db')
        with contextlib.suppress(sqlite3.Error): db.execute('CREATE TABLE t (x)')
        db.execute('SELECT * FROM t')
        """,
        {"failed": 1},
    ),
    "one that tests nothing": ("pass", {"failed": 1}),
    "one that fails by itself": ("assert False", {"failed": 1}),
}


@pytest.mark.parametrize("case", MADE_REPORTS_OF)
def test_a_hook_that_makes_reports_finds_the_fixtures(project: pytest.Pytester, case: str) -> None:
    body, outcome = MADE_REPORTS_OF[case]
    source = f"""
    @every_fault
    def test_it(tmp_path):
        {body.strip()}
    """
    done = run(project, source, conftest=READS_FIXTURES)
    done.assert_outcomes(**outcome)


def test_a_hook_that_fails_is_a_failure_of_its_test_with_what_was_found(project: pytest.Pytester) -> None:
    source = """
    @every_fault
    def test_it(tmp_path):
        db = sqlite3.connect(tmp_path / "a.db")
        with contextlib.suppress(sqlite3.Error):
            db.execute("CREATE TABLE t (x)")
        db.execute("SELECT * FROM t")
        db.close()

    def test_next():
        pass
    """
    conftest = """
    made = []

    def pytest_runtest_makereport(item, call):
        made.append(call)
        if len(made) == 40:
            raise ZeroDivisionError("a hook of somebody")
    """
    done = run(project, source, conftest=conftest)
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(
        ["*internal error in tornpage, or in a hook that it called*", "*ZeroDivisionError: a hook of somebody*",
         "*fault points that failed before*", "* --tornpage-at *"]
    )  # fmt: skip


def test_an_error_in_the_harness_does_not_end_the_session(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr(sweep.Sweep, "_took", broken)
    source = """
    @every_fault
    def test_it(tmp_path):
        sqlite3.connect(tmp_path / "a.db").execute("CREATE TABLE t (x)")

    def test_next(tmp_path):
        pass
    """
    done = run(project, source)
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(["*internal error in tornpage*", "*RuntimeError: a defect of ours*"])


def test_a_test_that_is_expected_to_fail_may_fail_under_a_fault(project: pytest.Pytester) -> None:
    source = """
    @pytest.mark.xfail(reason="a known bug", strict=True)
    @every_fault
    def test_it(tmp_path):
        db = sqlite3.connect(tmp_path / "a.db")
        with contextlib.suppress(sqlite3.Error):
            db.execute("CREATE TABLE t (x)")
        db.execute("SELECT * FROM t")
    """
    run(project, source).assert_outcomes(xfailed=1)


def test_what_a_test_records_is_recorded_once(project: pytest.Pytester) -> None:
    source = """
    @every_fault
    def test_it(tmp_path, record_property):
        record_property("size", 3)
        sqlite3.connect(tmp_path / "a.db").execute("CREATE TABLE t (x)")
    """
    run(project, source, "--junitxml", "junit.xml", "-o", "junit_family=xunit1").assert_outcomes(passed=1)
    assert (project.path / "junit.xml").read_text().count('name="size"') == 1


def test_settings_and_markers_of_others_are_left_alone(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nfaults_of_ours = 3\nmarkers =\n    faults: theirs\n")
    conftest = """
    def pytest_addoption(parser):
        parser.addoption("--faults-ours", action="store_true")
        parser.addini("faults_of_ours", "theirs")
    """
    source = """
    @pytest.mark.faults("whatever they like", 7)
    def test_it(pytestconfig, record_property):
        record_property("faults_points", "theirs")
        assert pytestconfig.getini("faults_of_ours") == "3"
    """
    done = run(project, source, "--faults-ours", conftest=conftest)
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*faults beneath SQLite*")


# -- subtests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reads", "outcome"), [("", "passed"), ("db.execute('SELECT * FROM t')", "failed")])
def test_errors_leave_the_subtests_of_unittest(project: pytest.Pytester, reads: str, outcome: str) -> None:
    swallow = "contextlib.suppress(sqlite3.Error)" if reads else "contextlib.nullcontext()"
    source = f"""
    class TestStore(unittest.TestCase):
        @every_fault
        def test_it(self):
            with tempfile.TemporaryDirectory() as home, contextlib.closing(sqlite3.connect(home + "/a.db")) as db:
                for name in ("t", "u"):
                    with self.subTest(name=name), {swallow}:
                        db.execute(f"CREATE TABLE {{name}} (x)")
                with self.subTest("reading"):
                    {reads or "pass"}

        def test_next(self):
            with self.subTest("as ever"):
                pass
    """
    done = run(project, source)
    summary = done.parseoutcomes()
    assert summary.get("failed", 0) == (outcome == "failed")
    assert counts(done)["fired"] > 10


# -- connections that outlive a run ------------------------------------------------------------------------

KEPT = {
    "a module's own, opened late": (
        """
    PATH = os.path.join(tempfile.mkdtemp(), "a.db")
    kept = {}

    def db():
        if "db" not in kept:
            kept["db"] = sqlite3.connect(PATH, isolation_level=None)
            kept["db"].execute("CREATE TABLE IF NOT EXISTS t (x)")
        return kept["db"]

    @every_fault
    def test_it():
        before = db().execute("SELECT count(*) FROM t").fetchone()[0]
        db().execute("INSERT INTO t VALUES (1)")
        assert db().execute("SELECT count(*) FROM t").fetchone()[0] == before + 1

    def test_later():
        db().execute("INSERT INTO t VALUES (1)")
        """
    ),
    "one that is opened again after an error": (
        """
    PATH = os.path.join(tempfile.mkdtemp(), "a.db")
    kept = []

    def write(x):
        if not kept:
            kept.append(sqlite3.connect(PATH, isolation_level=None))
            kept[0].execute("CREATE TABLE IF NOT EXISTS t (x)")
        try:
            kept[0].execute("INSERT INTO t VALUES (?)", (x,))
        except sqlite3.Error:
            kept.pop().close()
            raise

    @every_fault
    def test_it():
        write(1)

    def test_later():
        write(2)
        """
    ),
    "a pool": (
        """
    class Pool:
        def __init__(self, path, size):
            self.path, self.free, self.made, self.size = path, [], 0, size

        @contextlib.contextmanager
        def taken(self):
            if not self.free:
                self.made += 1
                assert self.made <= self.size, "the pool is exhausted"
                self.free.append(sqlite3.connect(self.path, isolation_level=None))
            db = self.free.pop()
            try:
                yield db
            finally:
                self.free.append(db)

    pool = Pool(os.path.join(tempfile.mkdtemp(), "a.db"), 2)

    @every_fault
    def test_it():
        with pool.taken() as one, pool.taken() as two:
            one.execute("CREATE TABLE IF NOT EXISTS t (x)")
            two.execute("INSERT INTO t VALUES (1)")

    def test_later():
        with pool.taken() as one, pool.taken() as two:
            assert one.execute("SELECT count(*) FROM t").fetchone() == two.execute("SELECT count(*) FROM t").fetchone()
        assert pool.made == 2
        """
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_connections_that_the_program_keeps_stay_open(project: pytest.Pytester, case: str) -> None:
    done = run(project, KEPT[case])
    done.assert_outcomes(passed=2)
    seen = counts(done)
    assert seen["fired"] == seen["fault points"] > 20
    done.stdout.no_fnmatch_line("*left open*")


def test_a_transaction_left_open_on_a_kept_connection_is_told_and_ended(project: pytest.Pytester) -> None:
    source = """
    PATH = os.path.join(tempfile.mkdtemp(), "a.db")
    kept = []

    def write(x):
        if not kept:
            kept.append(sqlite3.connect(PATH, isolation_level=None))
            kept[0].execute("CREATE TABLE IF NOT EXISTS t (x)")
        kept[0].execute("BEGIN IMMEDIATE")
        kept[0].execute("INSERT INTO t VALUES (?)", (x,))
        kept[0].execute("COMMIT")

    @every_fault(operations="lock:db", effects="BUSY", sticky=True)
    def test_it():
        write(1)
    """
    done = run(project, source)
    done.assert_outcomes(failed=1)
    # The COMMIT that is busy leaves it open; no other point, and no later run, is spoilt by that.
    assert 0 < counts(done)["failed"] < counts(done)["fault points"]
    done.stdout.fnmatch_lines(["*left a transaction open on*"])
    done.stdout.no_fnmatch_line("*cannot start a transaction within a transaction*")


def test_a_fault_that_spoils_what_runs_share_is_the_one_that_is_named(project: pytest.Pytester) -> None:
    source = """
    PATH = os.path.join(tempfile.mkdtemp(), "a.db")
    kept = []

    class Names:
        # It believes what it wanted to write; a run that follows finds out.
        def __init__(self):
            self.db = sqlite3.connect(PATH, isolation_level=None)
            self.db.execute("CREATE TABLE IF NOT EXISTS t (x)")
            self.count = self.db.execute("SELECT count(*) FROM t").fetchone()[0]

        def add(self):
            assert self.count == self.db.execute("SELECT count(*) FROM t").fetchone()[0], "memory and disk differ"
            self.count += 1
            self.db.execute("INSERT INTO t VALUES (1)")

    @every_fault(operations="write:journal", effects="FULL")
    def test_it():
        if not kept:
            kept.append(Names())
        kept[0].add()
    """
    done = run(project, source)
    done.assert_outcomes(failed=1)
    assert counts(done)["fault points"] == counts(done)["failed"] == 1
    done.stdout.fnmatch_lines(
        ["write:journal@1=FULL: after this fault the test fails without any fault: *memory and disk differ*",
         "*: * points not tried: after write:journal@1=FULL the test fails even*"]
    )  # fmt: skip


# -- threads -----------------------------------------------------------------------------------------------

LEAVES_A_THREAD = """
    import queue

    class Worker:
        # A thread that waits for work, as the driver of an asynchronous connection has one.
        def __init__(self, path):
            self.jobs, self.answers = queue.SimpleQueue(), queue.SimpleQueue()
            threading.Thread(target=self.work, args=(path,), name="worker").start()

        def work(self, path):
            db = sqlite3.connect(path, isolation_level=None)
            while (sql := self.jobs.get()) is not None:
                try:
                    self.answers.put(db.execute(sql).fetchall())
                except Exception as error:
                    self.answers.put(error)
            db.close()

        def execute(self, sql):
            self.jobs.put(sql)
            answer = self.answers.get()
            if isinstance(answer, Exception):
                raise answer
            return answer

    @every_fault(max_points=8)
    def test_it(tmp_path):
        worker = Worker(tmp_path / "a.db")
        worker.execute("CREATE TABLE t (x)")
        worker.execute("INSERT INTO t VALUES (1)")
        worker.jobs.put(None)
"""


def test_a_thread_that_dies_of_the_fault_is_no_warning_and_any_other_is(project: pytest.Pytester) -> None:
    source = """
    def add(path):
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE t (x)")

    def in_a_thread(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    @every_fault
    def test_it(tmp_path):
        in_a_thread(lambda: add(tmp_path / "a.db"))

    def test_other():
        in_a_thread(lambda: 1 / 0)
    """
    # The plugin may have been loaded into this process by another test.
    done = run(project, source, "-W", "default", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    done.assert_outcomes(passed=2, warnings=1)
    assert counts(done)["absorbed"] == counts(done)["fault points"] > 10
    done.stdout.fnmatch_lines(["*PytestUnhandledThreadExceptionWarning*"])
    done.stdout.fnmatch_lines(["*ZeroDivisionError*"])


@pytest.mark.parametrize(
    ("ends", "outcomes"),
    [("loop.call_soon_threadsafe(print)", {"passed": 1}), ("1 / 0", {"failed": 1, "errors": 1})],
)
def test_a_thread_whose_event_loop_is_gone_after_the_fault_fails_nothing(
    project: pytest.Pytester, ends: str, outcomes: dict[str, int]
) -> None:
    source = f"""
    @every_fault(operations="write:db")
    def test_it(tmp_path):
        loop = asyncio.new_event_loop()
        loop.close()
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as db:
            try:
                db.execute("CREATE TABLE t (x)")
            except sqlite3.Error:
                thread = threading.Thread(target=lambda: {ends})
                thread.start()
                thread.join()
                raise
    """
    run(project, source, "-W", "error::pytest.PytestUnhandledThreadExceptionWarning").assert_outcomes(**outcomes)


def test_threads_that_a_fault_leaves_behind_are_named_and_hold_nothing_up(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=HEAD + LEAVES_A_THREAD)
    # In a process of its own: what is at stake is whether it ends.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tornpage.scenarios.pytest_plugin.plugin", "test_it.py"],
        cwd=project.path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"test_it: [1-8] threads? left behind after a fault: worker", done.stdout), done.stdout


SHARED_WORK = """
    @every_fault
    def test_it(tmp_path):
        local, opened = threading.local(), []

        def write(number):
            if not hasattr(local, "db"):
                local.db = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
                opened.append(local.db)
                local.db.execute("CREATE TABLE IF NOT EXISTS t (x)")
            local.db.execute("INSERT INTO t VALUES (?)", (number,))

        try:
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(write, range(6)))
        finally:
            for db in opened:
                db.close()
"""


def test_threads_that_share_the_work_are_no_failure(project: pytest.Pytester) -> None:
    for _ in range(2):
        done = run(project, SHARED_WORK, "--tornpage-max-points", "60")
        done.assert_outcomes(passed=1)
        assert counts(done)["fired"] > 30


# -- what never returns ------------------------------------------------------------------------------------


def test_a_store_that_tries_again_for_ever_is_stopped_and_the_sweep_goes_on(project: pytest.Pytester) -> None:
    source = """
    def write(db, sql):
        while True:
            try:
                return db.execute(sql)
            except sqlite3.OperationalError:
                time.sleep(0.001)

    @every_fault(sticky=True, operations="write:journal,sync:db,delete", timeout=0.2)
    def test_it(tmp_path):
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as db:
            write(db, "CREATE TABLE t (x)")
    """
    done = run(project, source)
    done.assert_outcomes(failed=1)
    seen = counts(done)
    assert seen["fault points"] == seen["failed"] > 2
    done.stdout.fnmatch_lines(["write:journal@1..=FULL: still-usable-after-the-fault: still running after 0.2 s *"])


def test_a_teardown_that_never_returns_is_stopped_too(project: pytest.Pytester) -> None:
    source = """
    failed = []

    @pytest.fixture
    def db(tmp_path):
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as db:
            yield db
        if failed:
            threading.Event().wait()

    @every_fault(operations="sync:db", timeout=0.2)
    def test_it(db):
        try:
            db.execute("CREATE TABLE t (x)")
        except sqlite3.Error:
            failed.append(1)
            raise
    """
    done = run(project, source)
    done.assert_outcomes(failed=1, errors=1)
    done.stdout.fnmatch_lines(
        ["sync:db@1=IOERR_FSYNC: the teardown fails: TookTooLongError: still running after 0.2 s*"]
    )


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the limit needs SIGALRM")
def test_a_timer_that_was_set_before_rings_in_its_own_time() -> None:
    rung: list[float] = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(TookTooLongError), limit(0.2):  # noqa: PT012 - it is to be cut short in its middle
            while True:
                time.sleep(0.01)
        assert len(rung) == 1
        signal.setitimer(signal.ITIMER_REAL, 100)
        with limit(50):
            pass
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def test_the_default_limit_is_no_shorter_than_ten_runs_take() -> None:
    assert limit_of(None, 0.1) == 10
    assert limit_of(None, 3.0) == 30
    assert limit_of(2.0, 3.0) == 2
