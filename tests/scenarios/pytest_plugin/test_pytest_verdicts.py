"""The marker `every_fault`: which end of a run under a fault is a failure."""

import pytest
from marked_project import ADD, counts, run_test

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    "how",
    ["raise StoreError from error", "raise StoreError", "raise StoreError(error) from None", "raise SystemExit(1)"],
)
def test_an_error_may_surface_in_another(project: pytest.Pytester, how: str) -> None:
    run_test(project, "every_fault", ADD, before=telling(how)).assert_outcomes(passed=1)


HIDES = {
    "a word of its own": "raise StoreError('not added') from None",
    "what came of it": "self.db.execute('ROLLBACK'); raise",
    "success": "raise SystemExit(0)",
}


@pytest.mark.parametrize("how", HIDES)
def test_an_error_may_not_hide_the_fault(project: pytest.Pytester, how: str) -> None:
    done = run_test(project, "every_fault", ADD, before=telling(HIDES[how]))
    done.assert_outcomes(failed=1)
    said = "a program that ends so reports success" if how == "success" else "neither that nor its cause*"
    done.stdout.fnmatch_lines([f"write:journal@1=FULL: error-is-not-hidden: *{said}"])
    run_test(project, "every_fault(hidden_errors=True)", ADD, before=telling(HIDES[how])).assert_outcomes(passed=1)


@pytest.mark.parametrize("how", ["raise StoreError from error", HIDES["a word of its own"]])
def test_a_caller_that_tries_again_is_told_the_fault_too(project: pytest.Pytester, how: str) -> None:
    hides = "None" in how
    done = run_test(project, "every_fault(retry=True)", ADD, before=telling(how))
    done.assert_outcomes(failed=int(hides), passed=int(not hides))
    if hides:
        done.stdout.fnmatch_lines(["write:journal@1=FULL: error-is-not-hidden: *neither that nor its cause*"])
    run_test(project, "every_fault(retry=True, hidden_errors=True)", ADD, before=telling(how)).assert_outcomes(passed=1)


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


def test_the_most_ordinary_point_is_shown_first(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads, and an error after the COMMIT has taken effect, come before and after it, and fail as well."""
    monkeypatch.setenv("COLUMNS", "200")
    body = "try:\n    Store(tmp_path / 'a.db').add(1)\nexcept sqlite3.Error:\n    assert False, 'told'"
    done = run_test(project, "every_fault", body)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["lock:db@1=IOERR_LOCK: AssertionError: told*", "FAILED *fault points failed; at write:journal@1=FULL: *"]
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


def test_a_schema_with_functions_of_the_program_is_not_taken_for_damaged(project: pytest.Pytester) -> None:
    before = """
class Names(Store):
    def __init__(self, path):
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.create_collation("by_name", lambda one, other: (one > other) - (one < other))
        self.db.create_function("is_name", 1, bool, deterministic=True)
        self.db.execute("CREATE TABLE IF NOT EXISTS t (x TEXT PRIMARY KEY COLLATE by_name CHECK (is_name(x)))")

    def add(self, x):
        self.db.execute("INSERT INTO t VALUES(?)", (x,))
"""
    body = ADD.replace("Store(", "Names(").replace("add(1)", "add('ada')")
    run_test(project, "every_fault(operations='write')", body, before=before).assert_outcomes(passed=1)


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


def test_a_commit_that_raised_after_it_had_taken_effect_is_named(project: pytest.Pytester) -> None:
    body = """
store = Store(tmp_path / "store.db")
store.add(1)
try:
    store.add(2)
except sqlite3.OperationalError:
    assert store.db.execute("SELECT count(*) FROM t").fetchone() == (1,)
store.close()
"""
    done = run_test(project, "every_fault(operations='unlock,sync')", body)
    done.assert_outcomes(failed=1)
    failures = [line for line in done.outlines if "IOERR_" in line and "AssertionError" in line]
    assert (
        failures
        == [line for line in failures if line.startswith("unlock:db@") and "the COMMIT has taken effect" in line]
        != []
    )
