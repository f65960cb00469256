"""The marker `every_fault`: fixtures, connections and waits of the runs."""

from pathlib import Path

import pytest
from marked_project import ADD, SWALLOWS, counts, run, run_test

from tornpage import faults

pytest_plugins = ["pytester"]


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
