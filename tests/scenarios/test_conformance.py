"""The conformance suite: a class to subclass makes every search an ordinary test."""

import textwrap

import pytest

import tornpage.scenarios.pytest_plugin.conformance  # noqa: F401 - in the process from the start: pytester forgets what its runs import

pytest_plugins = ["pytester"]

STORES = """
    import sqlite3
    from tornpage import Action, SimpleTarget

    class Store:
        def __init__(self, path):
            self.db = sqlite3.connect(path, isolation_level=None)
            try:
                self.db.execute("PRAGMA journal_mode = WAL")
                self.db.execute("PRAGMA synchronous = FULL")
                self.db.execute("CREATE TABLE IF NOT EXISTS t (name TEXT PRIMARY KEY, value)")
                self.memory = dict(self.db.execute("SELECT name, value FROM t"))
            except BaseException:
                self.db.close()
                raise

        def put(self, name, value):
            self.db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (name, value))
            self.memory[name] = value

        def close(self):
            self.db.close()

    class MemoryFirst(Store):
        def put(self, name, value):
            self.memory[name] = value
            super().put(name, value)

    class Right(SimpleTarget):
        title = "right"
        store = Store
        calls = (Action("put", {"name": "a", "value": 1}),)
        beat = Action("put", {"name": "heartbeat", "value": 1})
        unpromised = {"waits-for-a-short-lock": "a new file is switched to WAL without waiting"}

        def make(self, path, configuration, environment):
            return self.store(path)

        def view(self, store):
            return dict(store.memory)

        def rows(self, connection):
            return dict(connection.execute("SELECT name, value FROM t"))

    class Wrong(Right):
        store = MemoryFirst

    class Broken(Right):
        calls = (Action("put", {"nme": "a"}),)

    class Files(Right):
        depths = ()

    class Still(Right):
        actions = None
        calls = ()

    class Misdeclared(Right):
        unpromised = {"waits-for-a-short-lok": "a slip", }

    class Undeclared(Right):
        unpromised = {"waits-for-a-short-lock": " "}
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with targets in `stores.py`."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(stores=STORES)
    pytester.syspathinsert()
    return pytester


def run(project: pytest.Pytester, target: str, *arguments: str, rest: str = "") -> pytest.RunResult:
    source = f"import stores\nfrom tornpage import Conformance\n\nclass TestIt(Conformance):\n    {rest}\n"
    (project.path / "test_it.py").write_text(f"{source}    target = {target}\n")
    return project.runpytest_inprocess(
        "-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider", *arguments
    )


@pytest.mark.slow
def test_a_store_that_is_right_passes_every_search(project: pytest.Pytester) -> None:
    done = run(project, "stores.Right", "-rs")
    done.assert_outcomes(passed=7, skipped=2)
    done.stdout.fnmatch_lines(
        [
            "test_it.py::TestIt::test_declared: waits-for-a-short-lock is not promised: a new file is switched *",
            "test_it.py::TestIt::test_sweep[[]wal/FULL]: * fired*",
            "test_it.py::TestIt::test_crash[[]wal/FULL]: * states*",
            "test_it.py::TestIt::test_contend[[]wal/FULL]: * contentions*",
            "*::test_interleave[[]wal/FULL]: does not suit stores:Right: *it does not declare `callers`*",
            "test_it.py::TestIt::test_kill[[]wal/FULL]: * kills*",
            "test_it.py::TestIt::test_fuzz[[]wal/FULL]: * scenarios*",
            "*::test_syscalls[[]wal/FULL]: does not suit stores:Right: system calls are faulted in a program that *",
            "SKIPPED * system calls are faulted in a program that *",
        ]
    )


def test_what_is_seen_and_not_promised_is_told_and_fails_nothing(project: pytest.Pytester) -> None:
    # Few of all points show it, so all of them are tried.
    done = run(project, "stores.Right", "-k", "contend", "--tornpage-profile", "nightly")
    done.assert_outcomes(passed=1, deselected=8)
    done.stdout.fnmatch_lines(
        ["*::test_contend[[]wal/FULL]: waits-for-a-short-lock was seen, and is not promised (*): a writer held *"]
    )


@pytest.mark.quality
def test_memory_first_fails_at_its_check_and_replays(project: pytest.Pytester) -> None:
    done = run(project, "stores.Wrong", "-k", "sweep", "--tornpage-report", "found")
    done.assert_outcomes(failed=1, deselected=8)
    done.stdout.fnmatch_lines(
        [
            "memory-equals-disk: the process and a fresh reader of the file return the same state",
            "  after a call (failed with OperationalError: *): a: memory has 1, the file has nothing",
            "    *. put(name='a', value=1)",
            "  Reproduce with:",
            "    tornpage replay found/stores-Wrong-memory-equals-disk-*.json --target stores:Wrong",
        ]
    )
    assert len(list((project.path / "found").glob("*.json"))) == 1


def test_each_configuration_is_a_test_of_its_own(project: pytest.Pytester) -> None:
    (project.path / "more.py").write_text(
        "from tornpage import Configuration\nfrom stores import Right\nclass More(Right):\n"
        "    configurations = tuple(Configuration('wal', level) for level in ('FULL', 'EXTRA', 'NORMAL', 'OFF'))\n"
    )
    done = run(project, "'more:More'", "--collect-only", "-q", "-k", "crash")
    assert [line.partition("::test_")[2] for line in done.outlines if "::" in line] == [
        "crash[wal/FULL]",
        "crash[wal/EXTRA]",
        "crash[wal/NORMAL]",
    ]
    every = run(project, "'more:More'", "--collect-only", "-q", "-k", "crash", "--tornpage-profile", "ci")
    assert "test_crash[wal/OFF]" in every.stdout.str()


def test_a_search_that_does_not_suit_says_why(project: pytest.Pytester) -> None:
    done = run(project, "stores.Files", "-k", "sweep or kill")
    done.assert_outcomes(skipped=2, deselected=7)
    done.stdout.fnmatch_lines(
        [
            "*::test_sweep[[]wal/FULL]: does not suit stores:Files: its depths are: none, only *",
            "*::test_kill[[]wal/FULL]: does not suit stores:Files: *",
        ]
    )


@pytest.mark.parametrize(
    ("target", "search", "said"),
    [
        ("stores.Broken", "sweep", "stores:Broken: put(nme='a') fails without any fault: *"),
        ("stores.Still", "sweep", "vacuous: sweep: the workload of stores:Still makes no call"),
        ("stores.Misdeclared", "declared", "unpromised names 'waits-for-a-short-lok', which is not a check; known: *"),
        ("stores.Undeclared", "declared", "unpromised: give the reason why waits-for-a-short-lock is not promised"),
    ],
)
def test_what_can_not_be_tested_fails(project: pytest.Pytester, target: str, search: str, said: str) -> None:
    done = run(project, target, "-k", search)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines([said])


def test_an_instance_is_named_by_the_suite_that_has_it(project: pytest.Pytester) -> None:
    """By its default name, no replay line and no other process could make it."""
    done = run(project, "stores.Wrong()", "-k", "sweep or kill", "--tornpage-report", "found")
    done.assert_outcomes(passed=1, failed=1, deselected=7)
    done.stdout.fnmatch_lines(["    tornpage replay found/test_it-TestIt-target-*.json --target test_it:TestIt.target"])


def test_a_target_that_another_process_can_not_import_is_not_killed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    suite = "from tornpage import Conformance\n\nclass TestIt(Conformance):\n    target = Right\n"
    (pytester.path / "test_it.py").write_text(f"{textwrap.dedent(STORES)}\n{suite}")
    done = pytester.runpytest_inprocess(
        "-p",
        "tornpage.scenarios.pytest_plugin.plugin",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "-k",
        "kill",
    )
    done.assert_outcomes(skipped=1, deselected=8)
    done.stdout.fnmatch_lines(["*another process can't import test_it:Right: put the target into a module on sys.path"])


@pytest.mark.parametrize(
    ("target", "arguments", "said"),
    [
        ("None", (), "*TestIt: set `target` to a target, its class, or its name"),
        ("'stores:Wrnog'", (), "*TestIt: cannot import target 'stores:Wrnog': AttributeError: *"),
        ("stores.Right", ("--tornpage-profile", "fast"), "*unknown profile 'fast'; known: quick, ci, nightly"),
    ],
)
def test_what_is_wrong_with_the_suite_is_told(
    project: pytest.Pytester, target: str, arguments: tuple[str, ...], said: str
) -> None:
    done = run(project, target, *arguments)
    assert done.ret != pytest.ExitCode.OK
    if not arguments:
        # Its tests fail, and no others: an error at collection would end the session.
        done.assert_outcomes(failed=9)
        done.stdout.no_fnmatch_line("*conformance.py:*")
    (done.stderr if done.ret == pytest.ExitCode.USAGE_ERROR else done.stdout).fnmatch_lines([said])


def test_a_target_that_is_declared_wrongly_fails_its_own_tests_and_no_others(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_all="""
        import stores
        from tornpage import Configuration
        from tornpage.scenarios.pytest_plugin.conformance import Conformance

        class NotATuple(stores.Right):
            configurations = Configuration("wal", "FULL")

        class CanNotBeMade(stores.Right):
            def __init__(self, url):
                self.url = url

        class TestNotATuple(Conformance):
            target = NotATuple

        class TestCanNotBeMade(Conformance):
            target = CanNotBeMade

        class TestNotThere(Conformance):
            target = "stores:Wrnog"

        def test_another():
            pass
        """
    )
    done = project.runpytest_inprocess(
        "-p", "tornpage.scenarios.pytest_plugin.plugin", "-p", "no:cacheprovider", "-k", "sweep or another"
    )
    done.assert_outcomes(passed=1, failed=3, deselected=24)
    done.stdout.fnmatch_lines_random(
        [
            "configurations is Configuration(*; give a tuple such as (Configuration('wal', 'FULL'),)",
            "TestCanNotBeMade: its target can't be made: TypeError: *missing 1 required positional argument: 'url'",
            "TestNotThere: cannot import target 'stores:Wrnog': AttributeError: *",
        ]
    )
