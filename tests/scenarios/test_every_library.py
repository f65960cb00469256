"""Every SQLite of the process is reached: a bug is caught on each binding, and a sound store is silent."""

import importlib.util
from pathlib import Path

import library_stores
import pytest
from library_stores import BINDINGS, MemoryFirst, OnStrange, Sound

# In the process from the start: pytester forgets what its runs import, and an audit hook can't be taken away.
import tornpage.scenarios.pytest_plugin.session  # noqa: F401
from tornpage import TargetError, faults
from tornpage.scenarios.search.limits import Limits
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep

pytest_plugins = ["pytester"]


def needs(binding: str) -> None:
    if importlib.util.find_spec(binding) is None:
        pytest.skip(f"{binding} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("binding", BINDINGS)
def test_a_memory_first_store_is_caught_and_a_sound_one_silent_in_both_modes(binding: str, tmp_path: Path) -> None:
    needs(binding)
    for store, codes in ((MemoryFirst, {"memory-equals-disk"}), (Sound, set())):
        recorder = Recorder()
        with faults.install():
            target = library_stores.target(binding, store)()
            Sweep(target, recorder, tmp_path / store.__name__, most_points_per_call=12).run()
        assert {found.finding.code for found in recorder.findings} == codes
        assert recorder.count("fired") == recorder.count("tried") > 50
        assert not recorder.vacuous
        series = {(one.kind, one.role) for one in recorder.tallies}
        assert {("write", "wal"), ("write", "journal"), ("sync", "wal"), ("sync", "journal")} <= series


@pytest.mark.slow
@pytest.mark.parametrize("binding", BINDINGS)
def test_limits_are_met_in_the_library_of_the_store(binding: str, tmp_path: Path) -> None:
    needs(binding)
    recorder = Recorder()
    with faults.install():
        Limits(library_stores.target(binding, Sound)(), recorder, tmp_path, most_points_per_call=8).run()
    assert recorder.count("limits")
    assert not recorder.findings
    assert not recorder.vacuous
    kinds = {one.kind for one in recorder.tallies}
    assert kinds == ({"allocation", "heap"} if binding == "sqlite3" else {"heap"})


def test_a_store_on_a_sqlite_that_is_not_watched_is_refused_with_the_libraries_that_are(tmp_path: Path) -> None:
    needs("pysqlite3")
    recorder = Recorder()
    with (
        faults.install(),
        pytest.raises(TargetError, match=r"things\.sqlite was written by another process, or by a SQLite that"),
    ):
        Sweep(OnStrange(), recorder, tmp_path / "sweep").run()


_MIXED = """
    import sqlite3
    import pytest
    {imports}

    @pytest.mark.every_fault
    def test_store_and_log(tmp_path):
        log = sqlite3.connect(tmp_path / "log.db")
        log.execute("CREATE TABLE l (x)")
        log.close()
        {store}
"""


@pytest.mark.parametrize("binding", BINDINGS[1:])
def test_faults_fire_in_a_store_on_one_library_and_a_log_on_another(binding: str, pytester: pytest.Pytester) -> None:
    needs(binding)
    opened = "apsw.Connection(str(tmp_path / 'a.db'))" if binding == "apsw" else f"{binding}.connect(tmp_path / 'a.db')"
    store = f"db = {opened}; db.execute('CREATE TABLE t (x)'); db.close()"
    pytester.makepyfile(_MIXED.format(imports="", store=""))
    alone = _points(pytester.runpytest_inprocess())
    pytester.makepyfile(_MIXED.format(imports=f"import {binding}", store=store))
    both = _points(pytester.runpytest_inprocess())
    assert alone
    assert both > 1.5 * alone


def _points(result: pytest.RunResult) -> int:
    result.assert_outcomes(passed=1)
    line = next(line for line in result.outlines if line.startswith("every_fault: "))
    return int(line.split(" test, ")[1].split()[0].replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize("binding", BINDINGS)
def test_a_marked_test_catches_a_memory_first_store_on_each_binding(binding: str, pytester: pytest.Pytester) -> None:
    needs(binding)
    pytester.syspathinsert(Path(__file__).parent)
    for store, outcome in (("MemoryFirst", {"failed": 1}), ("Sound", {"passed": 1})):
        # Python remembers a file's source by its name.
        name = f"test_{store.lower()}_on_{binding}"
        code = f"""
            import pytest
            from library_stores import Configuration, {store}, connect

            @pytest.mark.every_fault(retry=True, max_points=40)
            @pytest.mark.parametrize("mode", ["wal"])
            def test_what_is_added_is_there(mode, tmp_path):
                path = tmp_path / "a.db"
                store = {store}(connect("{binding}", path), Configuration(mode, "FULL"))
                store.add("a")
                store.close()
                again = {store}(connect("{binding}", path), Configuration(mode, "FULL"))
                assert again.view() == {{"a": 1}}
                again.close()
        """
        pytester.makepyfile(**{name: code})
        pytester.runpytest_inprocess(f"{name}.py").assert_outcomes(**outcome)


def test_a_marked_test_that_writes_past_every_watched_library_is_not_passed(pytester: pytest.Pytester) -> None:
    needs("pysqlite3")
    pytester.syspathinsert(Path(__file__).parent)
    pytester.makepyfile(
        _MIXED.format(
            imports="from library_stores import strange",
            store="(tmp_path / 'here').mkdir(); db = strange(tmp_path / 'here' / 'a.db'); "
            "db.execute('CREATE TABLE t (x)'); db.close()",
        )
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*every_fault can't judge this test: *a.db was written by a SQLite that is not*"])


@pytest.mark.parametrize(
    "copy",
    [
        "shutil.copy(tmp_path / 'log.db', tmp_path / 'b.db')",
        "(tmp_path / 'b.db').write_bytes((tmp_path / 'log.db').read_bytes())",
    ],
)
def test_a_database_that_python_code_copies_is_no_business_of_a_library(copy: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(_MIXED.format(imports="import shutil", store=copy))
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_binding_in_the_place_of_sqlite3_is_watched(pytester: pytest.Pytester) -> None:
    """The well-known trick of vector databases; in a process of its own, since it can't be undone."""
    needs("pysqlite3")
    pytester.makepyfile("""
        import sys
        __import__("pysqlite3")
        sys.modules["sqlite3"] = sys.modules.pop("pysqlite3")
        import sqlite3
        import pytest

        @pytest.mark.every_fault
        def test_swapped(tmp_path):
            db = sqlite3.connect(str(tmp_path / "a.db"))
            db.execute("CREATE TABLE t (x)")
            db.close()
            assert sqlite3.__name__ == "pysqlite3"
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["every_fault: 1 test, * fault points: * fired, *, 0 failed"])
