"""The marker `every_fault` with `retry=True`: the statement in which the fault surfaced is executed once more."""

import pytest
from marked_project import TEST_OF_TASKS, counts, run, run_test

pytest_plugins = ["pytester"]


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
