"""The pytest plugin: what it costs, its settings, and the marker that arms one plan."""

import json
import os
import subprocess
import sys

import pytest
from marked_project import run

from tornpage import faults

# In the process from the start: pytester forgets what its runs import, and an audit hook can't be taken away.
from tornpage.scenarios.pytest_plugin import session  # noqa: F401

pytest_plugins = ["pytester"]

PLAIN = """
    def test_nothing():
        pass
"""

STORE = """
    import sqlite3

    class Store:
        def __init__(self, path):
            self.db = sqlite3.connect(path, isolation_level=None)
            try:
                self.db.execute("CREATE TABLE IF NOT EXISTS t(x)")
            except sqlite3.Error:
                self.db.close()
                raise

        def add(self, x):
            self.db.execute("INSERT INTO t VALUES(?)", (x,))

        def close(self):
            self.db.close()
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other plugin is loaded."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a small store in `store.py`."""
    pytester.makepyfile(store=STORE)
    pytester.syspathinsert()
    return pytester


# -- what it costs -----------------------------------------------------------------------------------------


def test_without_a_marker_nothing_heavy_is_loaded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PLAIN)
    pytester.makeconftest("""
        import json, pathlib, sys

        def pytest_unconfigure():
            pathlib.Path("loaded.json").write_text(json.dumps(sorted(sys.modules)))
    """)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        # Where another SQLite is asked for it has to be there before anything else.
        env={name: value for name, value in os.environ.items() if name != "TORNPAGE_SQLITE"},
        check=True,
        capture_output=True,
    )
    loaded = set(json.loads((pytester.path / "loaded.json").read_text()))
    assert "tornpage.scenarios.pytest_plugin.plugin" in loaded, done.stdout
    assert not {name.partition(".")[0] for name in loaded} & {"hypothesis", "sqlite3", "msgspec"}
    assert {name for name in loaded if name.startswith("tornpage")} == {
        "tornpage",
        "tornpage.scenarios",
        "tornpage.scenarios.pytest_plugin.plugin",
        "tornpage.scenarios.pytest_plugin",
        "tornpage.scenarios.pytest_plugin.settings",
    }


def test_without_a_marker_nothing_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PLAIN)
    done = run(pytester)
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*tornpage: *")
    done.stdout.no_fnmatch_line("*SQLite*")


def test_the_markers_are_known(pytester: pytest.Pytester) -> None:
    done = run(pytester, "--markers")
    done.stdout.fnmatch_lines(["@pytest.mark.with_faults(plan)*", "@pytest.mark.every_fault(retry=False, *"])


# -- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--tornpage-max-pionts", "3"),
            "*unknown option --tornpage-max-pionts (did you mean --tornpage-max-points?)*--tornpage-at*",
        ),
        (("--tornpage-max-points", "none"), "*--tornpage-max-points*a whole number from 1 on, not 'none'*"),
        (("--tornpage-timeout", "-1"), "*--tornpage-timeout*a number of seconds above 0, not '-1'*"),
        (("--tornpage-at", "write:wall@1=FULL"), "*--tornpage-at*expected a role: db, wal, journal*"),
        (
            ("--tornpage-at", "unlock:db@1=BUSY"),
            "*--tornpage-at*can't happen on a real system; possible for unlock:db*",
        ),
        (
            ("--tornpage-at", "write:wal@1=FULL"),
            "*--tornpage-at runs tests with @pytest.mark.every_fault*none is selected*",
        ),
    ],
)
def test_an_option_that_is_wrong_is_told(project: pytest.Pytester, arguments: tuple[str, ...], said: str) -> None:
    project.makepyfile(PLAIN)
    done = run(project, *arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([said])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "tornpage_timout = 3",
            "*unknown ini setting tornpage_timout (did you mean tornpage_timeout?)*tornpage_max_points*",
        ),
        ("tornpage_timeout = soon", "*tornpage_timeout in the ini file: a number of seconds above 0, not 'soon'*"),
    ],
)
def test_an_ini_setting_that_is_wrong_is_told(project: pytest.Pytester, line: str, said: str) -> None:
    project.makeini(f"[pytest]\n{line}\n")
    project.makepyfile(PLAIN)
    done = run(project)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([said])


# -- one plan ----------------------------------------------------------------------------------------------


def test_a_plan_is_armed_while_the_test_is_called(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import sqlite3
        import pytest
        from store import Store

        @pytest.fixture
        def store(tmp_path):
            made = Store(tmp_path / "a.db")  # writes, before the plan is armed
            yield made
            made.add("after")  # and after it
            made.close()

        @pytest.mark.with_faults("write:db@1=FULL")
        def test_add(store):
            with pytest.raises(sqlite3.OperationalError) as raised:
                store.add(1)
            assert raised.value.sqlite_errorname == "SQLITE_FULL"

        def test_without_a_marker(store):
            store.add(1)
    """)
    done = run(project)
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(
        ["tornpage: SQLite *, faults can be armed beneath it", "with_faults: 1 test, 1 armed, 1 fired"]
    )


def test_a_plan_that_never_fires_fails_its_test(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest
        from store import Store

        @pytest.mark.with_faults("write:wal@1=FULL;write:db@50=FULL")
        def test_add(tmp_path):
            Store(tmp_path / "a.db").close()
    """)
    done = run(project)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*never fired: write:wal@1=FULL (there was no such operation); write:db@50=FULL (there were *"]
    )


def test_a_test_with_a_plan_may_fail_like_any_other(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest
        from store import Store

        @pytest.mark.with_faults("open:db@1=CANTOPEN")
        def test_add(tmp_path):
            Store(tmp_path / "a.db").close()
    """)
    done = run(project)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["E *sqlite3.OperationalError: unable to open database file"])


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("with_faults('write:wal@1=FUL')", "**expected an effect: *FULL*"),
        (
            "with_faults('unlock:db@1=BUSY')",
            "**can't happen on a real system; possible for unlock:db: /after=IOERR*",
        ),
        ("with_faults('write:wal@1=KILL')", "**would kill pytest itself*"),
        ("with_faults('commit@1=BUSY')", "**commit is not an operation below SQLite*: open, read, write*"),
        ("with_faults(7)", "*a fault plan is text such as 'write:wal@1=FULL', not 7*"),
        ("with_faults()", "*with_faults takes one fault plan*"),
        ("with_faults('write@1=FULL', plan=1)", "*with_faults takes one fault plan*"),
    ],
)
def test_a_plan_that_can_not_be_armed_is_told(project: pytest.Pytester, marker: str, said: str) -> None:
    project.makepyfile(f"""
        import pytest

        @pytest.mark.{marker}
        def test_it():
            pass

        def test_next():
            pass
    """)
    done = run(project)
    # It is the error of that one test; the others are run.
    done.assert_outcomes(errors=1, passed=1)
    done.stdout.fnmatch_lines([said])


def test_a_test_has_one_of_the_two_markers(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest

        @pytest.mark.every_fault
        @pytest.mark.with_faults("write@1=FULL")
        def test_it():
            pass
    """)
    done = run(project)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*either with_faults(plan) or every_fault, not both*"])


@pytest.mark.parametrize("marker", ["with_faults('write@1=FULL')", "every_fault", "interleave", "every_cancel"])
def test_a_library_that_can_not_be_reached_is_told(
    project: pytest.Pytester, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> None:
        raise faults.ShimUnavailableError("it is linked statically")

    monkeypatch.setattr(faults, "shim_for", unreachable)
    project.makepyfile(f"""
        import pytest

        @pytest.mark.{marker}
        def test_it():
            pass

        def test_without_a_marker():
            pass
    """)
    done = run(project)
    done.assert_outcomes(errors=1, passed=1)
    is_switched = marker in ("interleave", "every_cancel")
    what = "nothing can be switched" if is_switched else "no fault can be armed"
    done.stdout.fnmatch_lines([f"*{what}: SQLite *, which can't be reached: it is linked statically"])
    if not is_switched:
        done.stdout.fnmatch_lines(["tornpage: SQLite *, which can't be reached: it is linked statically"])
