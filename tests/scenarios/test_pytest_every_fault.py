"""The marker `every_fault`: any test of code that uses sqlite3 becomes a sweep, and stays one test."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tornpage import faults

# In the process from the start: pytester forgets what its runs import, and an audit hook can't be taken away.
from tornpage.scenarios.pytest_plugin import session  # noqa: F401

pytest_plugins = ["pytester"]

# The reported bug, in twenty lines with plain sqlite3; and the same with the write first.
TASKS = """
    import sqlite3

    class Tasks:
        def __init__(self, path):
            self.db = sqlite3.connect(path, isolation_level=None)
            self.db.execute("CREATE TABLE IF NOT EXISTS tasks(name TEXT PRIMARY KEY)")
            self.names = {row[0] for row in self.db.execute("SELECT name FROM tasks")}

        def add(self, name):
            if name not in self.names:
                self.names.add(name)
                self.db.execute("INSERT INTO tasks VALUES(?)", (name,))

        def delete(self, name):
            if name in self.names:
                self.names.remove(name)
                self.db.execute("DELETE FROM tasks WHERE name = ?", (name,))

        def close(self):
            self.db.close()

    class WriteFirst(Tasks):
        def add(self, name):
            if name not in self.names:
                self.db.execute("INSERT INTO tasks VALUES(?)", (name,))
                self.names.add(name)

        def delete(self, name):
            if name in self.names:
                self.db.execute("DELETE FROM tasks WHERE name = ?", (name,))
                self.names.remove(name)

    class Counts(WriteFirst):
        # Right, as long as nobody does again what has been done.
        def delete(self, name):
            if self.db.execute("DELETE FROM tasks WHERE name = ?", (name,)).rowcount != 1:
                raise KeyError(name)
            self.names.remove(name)
"""

TEST_OF_TASKS = """
    import pytest
    from tasks import Counts, Tasks, WriteFirst

    {marker}
    def test_a_deleted_task_stays_away(tmp_path):
        store = {store}(tmp_path / "tasks.db")
        store.add("milk")
        store.delete("milk")
        store.close()
        store = {store}(tmp_path / "tasks.db")
        assert store.names == set()
        store.close()
"""

# A store that is right, small enough for a sweep of some ten points.
STORE = """
    import sqlite3

    class StoreError(Exception):
        pass

    class Store:
        def __init__(self, path):
            self.path = str(path)
            self.db = sqlite3.connect(path, isolation_level=None)

        def add(self, x):
            self.db.execute("CREATE TABLE IF NOT EXISTS t(x PRIMARY KEY)")
            self.db.execute("INSERT INTO t VALUES(?)", (x,))

        def close(self):
            self.db.close()
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with the stores in `tasks.py` and `store.py`, and no other plugin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(tasks=TASKS, store=STORE)
    pytester.syspathinsert()
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    arguments = (
        "-p",
        "tornpage.scenarios.pytest_plugin.plugin",
        "-p",
        "no:cacheprovider",
        "--strict-markers",
        *arguments,
    )
    return project.runpytest_inprocess(*arguments)


def run_test(project: pytest.Pytester, marker: str, body: str, *arguments: str, before: str = "") -> pytest.RunResult:
    """Run one test, of this body, on the small store."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    head = "import sqlite3, time\nimport pytest\nfrom store import Store, StoreError\n"
    source = f"{head}\n{before}\n\n@pytest.mark.{marker}\ndef test_it(tmp_path):\n{indented}\n"
    (project.path / "test_it.py").write_text(source)
    return run(project, *arguments)


def counts(done: pytest.RunResult) -> dict[str, int]:
    """The numbers of the summary's line."""
    line = next(line for line in done.outlines if line.startswith("every_fault: "))
    return {name: int(number.replace(",", "")) for number, name in re.findall(r"([\d,]+) ([a-z ]+)", line)}


# -- the reported bug --------------------------------------------------------------------------------------


@pytest.mark.quality
@pytest.mark.parametrize("store", ["Tasks", "WriteFirst"])
def test_without_the_marker_neither_store_shows_anything(project: pytest.Pytester, store: str) -> None:
    project.makepyfile(TEST_OF_TASKS.format(marker="", store=store))
    run(project).assert_outcomes(passed=1)


@pytest.mark.quality
def test_the_reported_bug_is_caught_by_one_marker(project: pytest.Pytester) -> None:
    marker = "@pytest.mark.every_fault(retry=True)"
    path = project.makepyfile(TEST_OF_TASKS.format(marker=marker, store="Tasks"))
    done = run(project)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            ">       assert store.names == set()",
            "E *assert {'milk'} == set()*",
            f"{path.name}:11: AssertionError",
            "*fault points that failed*",
            "write:journal@*=FULL: line 8 raised OperationalError: *, was executed again, and then Assertion*",
            f"    pytest {path.name}::test_a_deleted_task_stays_away --tornpage-at write:journal@*=FULL",
            "FAILED *",
        ]
    )
    replay = re.search(r"^    pytest (\S+) --tornpage-at (\S+)$", done.stdout.str(), re.MULTILINE)
    assert replay is not None
    again = run(project, replay.group(1), "--tornpage-at", replay.group(2).strip("'"))
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["every_fault: 1 test, 1 fault point: 1 fired, 0 surfaced, 0 absorbed, 1 failed"])


@pytest.mark.quality
def test_the_store_that_writes_first_is_not_caught(project: pytest.Pytester) -> None:
    project.makepyfile(TEST_OF_TASKS.format(marker="@pytest.mark.every_fault(retry=True)", store="WriteFirst"))
    done = run(project)
    done.assert_outcomes(passed=1)
    seen = counts(done)
    assert seen["fault points"] == seen["fired"] == seen["surfaced"] + seen["absorbed"] > 50
    done.stdout.fnmatch_lines(["*times the caller tried again"])


# -- the caller tries again --------------------------------------------------------------------------------

RIGHT_ANYWAY = {
    "a call that reads after its commit": """
class Reads(Store):
    def add(self, x):
        super().add(x)
        return self.db.execute("SELECT x FROM t").fetchall()

def body(tmp_path):
    store = Reads(tmp_path / "a.db")
    store.add(1)
    store.add(2)
    assert len(store.add(3)) == 3
    store.close()
""",
    "several calls in one statement": """
def body(tmp_path):
    store = Store(tmp_path / "a.db")
    [store.add(x) for x in range(3)]
    store.close()
""",
    "a transaction over several statements": """
def body(tmp_path):
    db = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    db.execute("CREATE TABLE t(x)")
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES(1)")
    db.execute("INSERT INTO t VALUES(2)")
    db.execute("COMMIT")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (2,)
    db.close()
""",
    "a transaction that ends with its block": """
def body(tmp_path):
    with Store(tmp_path / "a.db").db as db:
        db.execute("CREATE TABLE t(x)")
    db.isolation_level = "DEFERRED"
    with db:
        db.execute("INSERT INTO t VALUES(1)")
        db.execute("INSERT INTO t VALUES(2)")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (2,)
    db.close()
""",
}


def test_a_plan_by_hand_that_leaves_it_open_is_not_answered_by_trying_again(project: pytest.Pytester) -> None:
    project.makepyfile(TEST_OF_TASKS.format(marker="@pytest.mark.every_fault(retry=True)", store="Counts"))
    # The third journal is that of the delete, which has happened when the error comes.
    done = run(project, "--tornpage-at", "delete:journal@3/after=IOERR_DELETE")
    done.stdout.fnmatch_lines(["every_fault: 1 test, 1 fault point: 1 fired, 1 surfaced, 0 absorbed, 0 failed"])


def test_an_error_that_comes_after_the_fact_is_no_reason_to_do_it_again(project: pytest.Pytester) -> None:
    marker = "@pytest.mark.every_fault(retry=True, effects='all')"
    project.makepyfile(TEST_OF_TASKS.format(marker=marker, store="Counts"))
    done = run(project)
    done.assert_outcomes(passed=1)
    assert counts(done)["surfaced"] > 50


@pytest.mark.parametrize("case", RIGHT_ANYWAY)
def test_what_may_have_happened_is_not_done_again(project: pytest.Pytester, case: str) -> None:
    source = RIGHT_ANYWAY[case].replace("def body", "@pytest.mark.every_fault(retry=True)\ndef test_it")
    project.path.joinpath("test_it.py").write_text(f"import sqlite3\nimport pytest\nfrom store import Store\n{source}")
    done = run(project)
    done.assert_outcomes(passed=1)
    assert counts(done)["surfaced"] > 20
    done.stdout.no_fnmatch_line("*: 0 times the caller tried again")


TWICE_IS_NOT_ONCE = {
    "an item that is taken": "todo = [1]\nstore.add(todo.pop())",
    "the next one of an iterator": "names = iter([1])\nstore.add(next(names))",
    "a walrus": "n = 0\nstore.add(n := n + 1)",
    "one call beside another": "todo = [1]\n(todo.pop(), store.add(1))",
    "what is left of an iterator": "names = iter([1, 2])\n[store.add(x) for x in names]",
}


@pytest.mark.parametrize("case", TWICE_IS_NOT_ONCE)
def test_a_statement_that_does_something_besides_is_not_done_again(project: pytest.Pytester, case: str) -> None:
    read = "rows = store.db.execute('SELECT x FROM t').fetchall()\nassert rows[0] == (1,)\nstore.close()"
    body = f"store = Store(tmp_path / 'a.db')\n{TWICE_IS_NOT_ONCE[case]}\n{read}"
    done = run_test(project, "every_fault(retry=True)", body)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(
        ["test_it.py::test_it: * times the caller tried again", "*: * points not judged by retry"]
    )
    done.stdout.no_fnmatch_line("*: 0 times the caller tried again")


def test_a_single_point_need_not_be_one_that_can_be_repeated(project: pytest.Pytester) -> None:
    body = "store = Store(tmp_path / 'a.db')\ntodo = [1]\nstore.add(todo.pop())\nstore.close()"
    done = run_test(project, "every_fault(retry=True)", body, "--tornpage-at", "write:db@1=FULL")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["test_it.py::test_it: 1 point not judged by retry"])


def test_a_caller_that_never_tries_again_is_vacuous(project: pytest.Pytester) -> None:
    before = """
@pytest.fixture
def db(tmp_path):
    made = sqlite3.connect(tmp_path / "a.db")
    made.execute("CREATE TABLE t(x)")
    yield made
    made.close()

@pytest.fixture(autouse=True)
def tell(request):
    globals()["request"] = request
"""
    # The database is written when the block ends, which is no statement that could be executed again.
    body = "with request.getfixturevalue('db') as db:\n    db.execute('INSERT INTO t VALUES(1)')"
    marker = "every_fault(retry=True, operations='write:db')\n@pytest.mark.usefixtures('db')"
    done = run_test(project, marker, body, before=before)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*every_fault(retry=True) repeated nothing: no fault surfaced in a statement that could*"]
    )


# -- what is tried -----------------------------------------------------------------------------------------

ADD = """
store = Store(tmp_path / "a.db")
store.add(1)
store.close()
"""


def test_every_operation_of_the_call_fails_once(project: pytest.Pytester) -> None:
    done = run_test(project, "every_fault", ADD)
    done.assert_outcomes(passed=1)
    seen = counts(done)
    assert seen["failed"] == 0
    assert seen["fault points"] == seen["fired"] == seen["surfaced"] + seen["absorbed"]
    assert seen["surfaced"] > 10
    assert seen["absorbed"] > 5


def test_the_same_points_are_tried_every_time(project: pytest.Pytester) -> None:
    first, second = (counts(run_test(project, "every_fault", ADD)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "points"),
    [
        ("operations='write:db', effects='FULL'", "write:db@1=FULL write:db@2=FULL write:db@3=FULL write:db@4=FULL"),
        ("operations=['delete'], effects='after=all'", "/after=IOERR_DELETE"),
        ("operations='delete', effects=['IOERR_DIR_FSYNC'], sticky=True", "delete:journal@1../after=IOERR_DIR_FSYNC"),
    ],
)
def test_the_marker_chooses_operations_and_effects(project: pytest.Pytester, arguments: str, points: str) -> None:
    # A test that fails at every point lists all of them.
    body = (
        f"try:\n    {'; '.join(ADD.split(chr(10))[1:-1])}\nexcept sqlite3.Error:\n    failed = True\nelse:\n    return"
    )
    done = run_test(project, f"every_fault({arguments})", f"{body}\nassert not failed")
    for point in points.split():
        done.stdout.fnmatch_lines([f"*{point.replace('[', '[[]')}*"])
    assert "=IOERR_READ" not in done.stdout.str()


def test_all_effects_are_more_than_the_default_ones(project: pytest.Pytester) -> None:
    few, many = (counts(run_test(project, f"every_fault{effects}", ADD)) for effects in ("", "(effects='all')"))
    assert many["fault points"] > 1.5 * few["fault points"]


def test_a_sample_is_told(project: pytest.Pytester) -> None:
    done = run_test(project, "every_fault", ADD, "--tornpage-max-points", "7")
    assert counts(done)["fault points"] == 7
    done.stdout.fnmatch_lines(["test_it.py::test_it: a sample of 7 of * fault points"])


def test_settings_stand_in_the_ini_file_too(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\ntornpage_max_points = 4\n")
    assert counts(run_test(project, "every_fault", ADD))["fault points"] == 4


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        (
            "every_fault(efects='FULL')",
            "*no argument efects (did you mean effects?); it has: retry, effects, operations*",
        ),
        ("every_fault(True)", "*takes its arguments by name: retry, *; not True*"),
        ("every_fault(effects='FUL')", "*no effect 'FUL'; write 'all', or any of these*FULL*"),
        ("every_fault(effects='early=FULL')", "*no effect 'early=FULL'*before=, half=, after=*"),
        ("every_fault(operations='wrte')", "*no operation 'wrte'; write one of: open, read, write*"),
        ("every_fault(operations=[])", "*operations is a name, or several, not []*"),
        ("every_fault(retry=1)", "*retry is True or False, not 1*"),
        ("every_fault(retry=True, sticky=True)", "*retry or sticky, not both*"),
        ("every_fault(max_points=0)", "*max_points is a whole number from 1 on, not 0*"),
        ("every_fault(timeout='long')", "*timeout is a number of seconds above 0, not 'long'*"),
    ],
)
def test_a_marker_that_is_wrong_is_told(project: pytest.Pytester, marker: str, said: str) -> None:
    done = run_test(project, marker, ADD)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([said])


# -- what counts as failed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["raise StoreError from error", "raise StoreError", "raise StoreError(error) from None"]
)
def test_an_error_may_surface_in_another(project: pytest.Pytester, how: str) -> None:
    run_test(project, "every_fault", ADD, before=telling(how)).assert_outcomes(passed=1)


HIDES = {
    "a word of its own": "raise StoreError('not added') from None",
    "what came of it": "self.db.execute('ROLLBACK'); raise",
}


@pytest.mark.parametrize("how", HIDES)
def test_an_error_may_not_hide_the_fault(project: pytest.Pytester, how: str) -> None:
    done = run_test(project, "every_fault", ADD, before=telling(HIDES[how]))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["write:journal@1=FULL: error-is-not-hidden: *neither that nor its cause*"])
    run_test(project, "every_fault(hidden_errors=True)", ADD, before=telling(HIDES[how])).assert_outcomes(passed=1)


def telling(how: str) -> str:
    """The small store with a handler of its own."""
    return f"""
class Store(Store):
    def add(self, x):
        try:
            super().add(x)
        except sqlite3.Error as error:
            {how}
"""


def test_a_swallowed_error_is_seen_by_the_tests_own_assertion(project: pytest.Pytester) -> None:
    body = """
store = Store(tmp_path / "a.db")
try:
    store.add(1)
except sqlite3.Error:
    pass
assert store.db.execute("SELECT x FROM t").fetchall() == [(1,)]
store.close()
"""
    done = run_test(project, "every_fault", body)
    done.assert_outcomes(failed=1)
    # What the code makes of a fault that it has swallowed is no answer to it, though it is an error of sqlite3.
    done.stdout.fnmatch_lines(
        [
            "*OperationalError: no such table: t",
            "*fault points that failed*",
            "*write:journal@1=FULL: OperationalError: no such*",
        ]
    )


def test_any_other_exception_fails_at_its_point(project: pytest.Pytester) -> None:
    before = """
class Forgetful(Store):
    def add(self, x):
        try:
            super().add(x)
        except sqlite3.Error:
            self.forgotten = True
"""
    body = """
store = Forgetful(tmp_path / "a.db")
store.add(1)
if hasattr(store, "forgotten"):
    {}["x"]
store.close()
"""
    done = run_test(project, "every_fault(operations='sync')", body, before=before)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*KeyError: 'x'", "sync:journal@1=IOERR_FSYNC: KeyError: 'x'"])


ASSERTS = {
    "in a handler": """
try:
    store.add(1)
except sqlite3.Error:
    assert {}
    raise
""",
    "at the end": """
try:
    store.add(1)
finally:
    assert {}
""",
}


@pytest.mark.parametrize("where", ASSERTS)
def test_an_assertion_that_fails_while_the_fault_is_handled_fails_at_its_point(
    project: pytest.Pytester, where: str
) -> None:
    body = 'store = Store(tmp_path / "a.db")\n' + ASSERTS[where]
    reads = "sqlite3.connect(tmp_path / 'a.db').execute('SELECT x FROM t').fetchall()"
    done = run_test(project, "every_fault(operations='write:journal')", body.format(f"{reads} == [(1,)]"))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["write:journal@*=FULL: AssertionError: *"])
    sound = f"{reads} in ([], [(1,)])"
    if where == "in a handler":
        sound = "not store.db.in_transaction"
    passed = run_test(project, "every_fault(operations='write:db')", body.format(sound))
    passed.assert_outcomes(passed=1)


EXPECTS = {
    "pytest": "with pytest.raises(sqlite3.Error, match='locked'):",
    "unittest": "with unittest.TestCase().assertRaisesRegex(sqlite3.Error, 'locked'):",
}


@pytest.mark.parametrize("who", EXPECTS)
def test_what_expects_another_error_lets_the_fault_surface(project: pytest.Pytester, who: str) -> None:
    body = f"""
store = Store(tmp_path / "a.db")
{EXPECTS[who]}
    store.add(1)
    raise sqlite3.OperationalError("database is locked")
"""
    run_test(project, "every_fault", body, before="import unittest").assert_outcomes(passed=1)


def test_a_skip_under_a_fault_says_nothing(project: pytest.Pytester) -> None:
    body = (
        f"try:\n    {'; '.join(ADD.split(chr(10))[1:-1])}\nexcept sqlite3.Error:\n    failed = True\nelse:\n    return"
    )
    done = run_test(project, "every_fault(operations='sync')", f"{body}\npytest.skip('no disk')")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*under the fault it ended with Skipped: no disk, which proves nothing*"])


def test_a_transaction_that_the_store_leaves_open_is_a_failure(project: pytest.Pytester) -> None:
    before = """
class Stuck(Store):
    def add(self, x):
        self.db.execute("BEGIN IMMEDIATE")
        super().add(x)
        self.db.execute("COMMIT")

@pytest.fixture
def store(tmp_path):
    made = Stuck(tmp_path / "a.db")
    yield made
    made.close()

@pytest.fixture
def tmp_path(tmp_path):
    return tmp_path
"""
    body = "request.getfixturevalue('store').add(1)"
    marker = "every_fault(operations='lock:db', effects='BUSY', sticky=True{})\n@pytest.mark.usefixtures('store')"
    before += "\n@pytest.fixture(autouse=True)\ndef wire(request):\n    globals()['request'] = request\n"
    done = run_test(project, marker.format(""), body, before=before)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*the code under test raised OperationalError: database is locked and left a transaction open on */a.db: *"]
    )
    run_test(project, marker.format(", open_transactions=True"), body, before=before).assert_outcomes(passed=1)


def test_a_transaction_of_the_tests_own_statements_is_its_own_business(project: pytest.Pytester) -> None:
    body = """
db = sqlite3.connect(tmp_path / "a.db")
db.execute("CREATE TABLE t(x)")
db.execute("INSERT INTO t VALUES(1)")
db.commit()
db.close()
"""
    run_test(project, "every_fault(operations='lock', sticky=True)", body).assert_outcomes(passed=1)


def test_a_database_that_is_damaged_is_a_failure(project: pytest.Pytester) -> None:
    before = """
class Scribbles(Store):
    def add(self, x):
        try:
            super().add(x)
        except sqlite3.Error:
            self.db.close()
            with open(self.path, "wb") as file:
                file.write(b"scribble" * 1000)
            raise
"""
    body = "store = Scribbles(tmp_path / 'a.db')\nstore.add(1)\nstore.close()"
    done = run_test(project, "every_fault(operations='sync')", body, before=before)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["sync:journal@1=IOERR_FSYNC: */a.db can't be read: file is not a database"])


def test_a_shared_database_is_looked_at_too(project: pytest.Pytester) -> None:
    before = """
@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("m") / "shared.db")
    store.add(0)
    yield store
    store.close()

@pytest.fixture(autouse=True)
def tell(shared):
    globals()["shared_one"] = shared
"""
    body = """
with open(shared_one.path, "r+b") as file:
    file.seek(4096)
    page = file.read(4096)
try:
    Store(tmp_path / "a.db").add(1)
except sqlite3.Error:
    with open(shared_one.path, "r+b") as file:
        file.seek(4096)
        file.write(b"x" * 4096)
    raise
"""
    done = run_test(project, "every_fault(operations='sync')", body, before=before)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["sync:journal@1=IOERR_FSYNC: */shared.db*"])


def test_a_run_that_hangs_gets_a_verdict(project: pytest.Pytester) -> None:
    before = """
class Waits(Store):
    def add(self, x):
        try:
            super().add(x)
        except Exception:
            try:
                time.sleep(60)
            except BaseException:
                pass
            while True:
                time.sleep(60)
"""
    body = "store = Waits(tmp_path / 'a.db')\nstore.add(1)\nstore.close()"
    done = run_test(project, "every_fault(operations='delete', timeout=0.1)", body, before=before)
    done.assert_outcomes(failed=1)
    message = "still-usable-after-the-fault: still running after 0.1 s (--tornpage-timeout)"
    done.stdout.fnmatch_lines([f"delete:journal@1=IOERR_DELETE: {message}"])


def test_an_operation_that_did_not_come_is_tried_at_the_last_one_that_did(project: pytest.Pytester) -> None:
    body = ADD.replace("store.add(1)", "runs.append(1)\nfor x in range(3 if len(runs) <= 2 else 1): store.add(x)")
    done = run_test(project, "every_fault(operations='sync:db')", body, before="runs = []")
    done.assert_outcomes(passed=1)
    seen = counts(done)
    assert seen["fault points"] == seen["fired"] == 4
    done.stdout.fnmatch_lines(
        ["test_it.py::test_it: 2 points tried at an earlier operation: *fewer came than at first"]
    )


def test_an_operation_that_comes_the_second_time_is_judged(project: pytest.Pytester) -> None:
    # Every third run makes one call only, as a cache would that is full.
    body = ADD.replace("store.add(1)", "runs.append(1)\nfor x in range(1 if len(runs) % 3 == 0 else 3): store.add(x)")
    done = run_test(project, "every_fault(operations='sync:db')", body, before="runs = []")
    done.assert_outcomes(passed=1)
    assert counts(done)["fired"] == 4
    done.stdout.no_fnmatch_line("*earlier operation*")


def test_a_fault_that_never_fires_is_a_failure(project: pytest.Pytester) -> None:
    body = "runs.append(1)\n" + ADD.replace("store.add(1)", "if len(runs) <= 2: store.add(1)")
    done = run_test(project, "every_fault(operations='sync:db')", body, before="runs = []")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*sync:db@1=IOERR_FSYNC (there was no such operation)*", "test_it.py::test_it: vacuous, 2 times"]
    )


# -- tests that can't be swept -----------------------------------------------------------------------------


def test_a_test_that_fails_by_itself_is_told_first(project: pytest.Pytester) -> None:
    done = run_test(
        project, "every_fault", "runs.append(1)\nassert len(runs) == 2, f'run {len(runs)}'", before="runs = []"
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*AssertionError: run 1*", "*The test fails without any fault, so no fault*"])
    done.stdout.no_fnmatch_line("every_fault: *")


def test_a_test_that_passes_only_once_is_told(project: pytest.Pytester) -> None:
    before = """
@pytest.fixture(scope="module", autouse=True)
def shared(tmp_path_factory):
    globals()["store"] = Store(tmp_path_factory.mktemp("m") / "a.db")
    yield
    store.close()
"""
    done = run_test(project, "every_fault", "store.add(1)", before=before)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*UNIQUE constraint failed*", "The test passed once, and fails when it is run again *"])
    done.stdout.no_fnmatch_line("every_fault: *")


def test_a_teardown_that_fails_is_an_error_and_the_next_test_runs(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_a="""
            import pytest
            from store import Store

            @pytest.fixture
            def fails():
                yield
                raise OSError("not torn down")

            @pytest.mark.every_fault
            def test_it(tmp_path, fails):
                Store(tmp_path / "a.db").add(1)
        """,
        test_b="def test_next():\n    pass",
    )
    done = run(project)
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["E *OSError: not torn down"])


@pytest.mark.parametrize("body", ["assert True", "sqlite3.connect(':memory:').close()"])
def test_a_test_without_a_database_on_disk_is_vacuous(project: pytest.Pytester, body: str) -> None:
    done = run_test(project, "every_fault", body)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*every_fault tested nothing: the call of this test made no I/O below SQLite.*"])


def test_a_choice_that_meets_nothing_is_vacuous(project: pytest.Pytester) -> None:
    done = run_test(project, "every_fault(operations='shmlock')", ADD)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*none of the operations of this test can have any of the requested effects*"])


@pytest.mark.parametrize(
    ("mark", "outcome"),
    [("skip", {"skipped": 1}), ("xfail(raises=ZeroDivisionError, strict=True)", {"xfailed": 1})],
)
def test_a_test_that_is_not_expected_to_pass_is_not_swept(
    project: pytest.Pytester, mark: str, outcome: dict[str, int]
) -> None:
    done = run_test(project, f"every_fault\n@pytest.mark.{mark}", "1 / 0")
    done.assert_outcomes(**outcome)
    done.stdout.no_fnmatch_line("every_fault: *")


def test_a_hypothesis_test_is_refused(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest
        from hypothesis import given, strategies

        @pytest.mark.every_fault
        @given(strategies.integers())
        def test_it(x):
            pass
    """)
    done = run(project)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*every_fault can't sweep a Hypothesis test*tornpage fuzz*"])


# -- runs --------------------------------------------------------------------------------------------------


def test_each_run_has_fixtures_of_its_own_and_the_wider_ones_live_on(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import collections, json, pathlib
        import pytest
        from store import Store

        made = collections.Counter()

        @pytest.fixture(scope="module")
        def module(tmp_path_factory):
            made["module"] += 1
            store = Store(tmp_path_factory.mktemp("m") / "shared.db")
            yield store
            store.close()
            made["module ended"] += 1
            pathlib.Path("made.json").write_text(json.dumps(made))

        @pytest.fixture
        def function(tmp_path):
            made["function"] += 1
            assert not list(tmp_path.iterdir())
            store = Store(tmp_path / "a.db")
            yield store
            store.close()
            made["function ended"] += 1

        class TestIt:
            @pytest.mark.every_fault(operations="write")
            def test_it(self, module, function):
                assert not hasattr(self, "seen")
                self.seen = True
                function.add(1)
                module.db.execute("SELECT 1").fetchall()  # it is never closed by a run

            def test_after(self, module):
                module.add("after")
    """)
    done = run(project)
    done.assert_outcomes(passed=2)
    made = Path(project.path / "made.json").read_text()
    runs = 2 + counts(done)["fault points"]
    assert made == f'{{"module": 1, "function": {runs}, "function ended": {runs}, "module ended": 1}}'


def test_a_shared_connection_is_not_left_in_a_transaction(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest
        from store import Store

        @pytest.fixture(scope="module")
        def shared(tmp_path_factory):
            store = Store(tmp_path_factory.mktemp("m") / "shared.db")
            yield store
            store.close()

        @pytest.mark.every_fault(operations="write:db", open_transactions=True)
        def test_it(shared, tmp_path):
            shared.db.execute("BEGIN IMMEDIATE")  # no run may find it open from the last one
            store = Store(tmp_path / "a.db")
            store.add(1)
            store.close()
            shared.db.execute("COMMIT")
    """)
    done = run(project)
    done.assert_outcomes(passed=1)
    assert counts(done)["surfaced"] > 1


def test_a_failing_point_shows_the_output_of_its_own_run(project: pytest.Pytester) -> None:
    body = "runs.append(1)\nprint('this is run', len(runs))\n" + SWALLOWS
    done = run_test(project, "every_fault(operations='delete')", body, before="runs = []")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["this is run 3"])
    for other in (1, 2, 4):
        done.stdout.no_fnmatch_line(f"this is run {other}")


def test_busy_timeouts_take_no_real_time(project: pytest.Pytester) -> None:
    with faults.install(virtual_sleep=False) as shim:
        before_us = shim.slept_us
        run_test(project, "every_fault(operations='lock', effects='BUSY', sticky=True)", ADD).assert_outcomes(passed=1)
        # Five seconds at each of the points: that is Python's own timeout.
        assert shim.slept_us - before_us > 20_000_000


def test_a_wait_for_another_thread_takes_its_time(project: pytest.Pytester) -> None:
    before = """
import contextlib, threading

def hold(path, held, waited):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        held.set()
        waited.wait(0.05)
        db.execute("COMMIT")
"""
    body = """
path, held = tmp_path / "a.db", threading.Event()
store = Store(path)
thread = threading.Thread(target=hold, args=(path, held, threading.Event()))
thread.start()
held.wait()
try:
    store.add(1)
finally:
    thread.join()
    store.close()
"""
    run_test(project, "every_fault(operations='delete')", body, before=before).assert_outcomes(passed=1)
    run_test(project, "faults('delete:journal@1=IOERR_DELETE')", body, before=before).stdout.no_fnmatch_line("*locked*")


def test_connections_that_are_left_open_are_closed_and_told(project: pytest.Pytester) -> None:
    body = (
        "store = Store(tmp_path.parent / 'one.db')\nstore.itself = store\nruns.append(1)\n"
        "store.db.execute('BEGIN')\nstore.add(len(runs))"
    )
    done = run_test(project, "every_fault(operations='write')", body, before="runs = []")
    # All runs share one file: a transaction that were still open would lock out the next run.
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["test_it.py::test_it: * left open, and closed after the run"])


def test_a_testcase_is_swept_with_its_setup(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import os, tempfile, unittest
        import pytest
        from store import Store

        class TestStore(unittest.TestCase):
            def setUp(self):
                self.home = tempfile.TemporaryDirectory()
                self.addCleanup(self.home.cleanup)
                self.store = Store(os.path.join(self.home.name, "a.db"))
                self.addCleanup(self.store.close)
                self.store.add(1)

            @pytest.mark.every_fault
            def test_right(self):
                self.store.add(2)

            @pytest.mark.every_fault(operations="sync")
            def test_wrong(self):
                try:
                    self.store.add(2)
                except Exception:
                    failed = True
                else:
                    return
                self.assertFalse(failed)
    """)
    done = run(project)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["sync:journal@5=IOERR_FSYNC: AssertionError: True is not false"])


def test_parametrized_tests_replay_by_their_quoted_name(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import sqlite3
        import pytest
        from store import Store

        @pytest.mark.parametrize("x", [1, 2])
        @pytest.mark.every_fault(operations="delete")
        def test_it(tmp_path, x):
            store = Store(tmp_path / "a.db")
            try:
                store.add(x)
            except sqlite3.Error:
                pass
            assert store.db.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,) or x == 2
            store.close()
    """)
    done = run(project)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["    pytest '*.py::test_it[[]1]' --tornpage-at delete:journal@1=IOERR_DELETE"])


# -- what is told ------------------------------------------------------------------------------------------

SWALLOWS = ADD.replace("store.add(1)", "try:\n    store.add(1)\nexcept sqlite3.Error:\n    store.db = None")


def test_junit_has_the_counts_as_properties(project: pytest.Pytester) -> None:
    run_test(project, "every_fault(operations='sync')", ADD, "--junitxml=junit.xml")
    root = ElementTree.parse(project.path / "junit.xml").getroot()  # noqa: S314 - our own file
    properties = {one.get("name"): one.get("value") for one in root.iter("property")}
    assert properties["tornpage_points"] == properties["tornpage_fired"] != "0"
    assert int(properties["tornpage_surfaced"]) + int(properties["tornpage_absorbed"]) == int(
        properties["tornpage_points"]
    )
    assert properties["tornpage_failed"] == properties["tornpage_vacuous"] == "0"
    assert len(list(root.iter("testcase"))) == 1


@pytest.mark.parametrize("where", ["true", ""])
def test_github_gets_annotations_where_it_runs_the_tests(
    project: pytest.Pytester, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", where)
    done = run_test(project, "every_fault(operations='delete')", SWALLOWS)
    line = "::error file=test_it.py,line=7,title=tornpage::delete:journal@1=IOERR_DELETE: AttributeError: *"
    if where:
        done.stdout.fnmatch_lines([line])
    else:
        done.stdout.no_fnmatch_line("::error*")


def test_the_first_points_are_shown_in_full_and_the_others_in_a_line(project: pytest.Pytester) -> None:
    done = run_test(project, "every_fault(operations='write')", SWALLOWS)
    failed = counts(done)["failed"]
    assert failed > 4
    text = done.stdout.str()
    assert len(re.findall(r"^-+ at write:\S+ -+$", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^>       store.close\(\)|^>   .*store.close", text, re.MULTILINE)) == 3
    assert len(re.findall(r"--tornpage-at", text)) == failed


@pytest.mark.slow
def test_it_works_under_xdist(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # Here the plugin is found as it is at every user's, by its entry point.
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    project.makepyfile(
        test_right=TEST_OF_TASKS.format(marker="@pytest.mark.every_fault(retry=True)", store="WriteFirst"),
        test_wrong=TEST_OF_TASKS.format(marker="@pytest.mark.every_fault(retry=True)", store="Tasks"),
        test_refused=TEST_OF_TASKS.format(marker="@pytest.mark.every_fault(rety=True)", store="Tasks"),
    )
    done = project.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2")
    done.assert_outcomes(passed=1, failed=1, errors=1)
    assert counts(done)["tests"] == 2
    done.stdout.fnmatch_lines(
        [
            "*every_fault has no argument rety (did you mean retry?)*",
            "*fault points that failed*",
            "*line 8 raised OperationalError: *, was executed again, and then AssertionError: *",
        ]
    )
