"""The marker `every_fault`: any test of code that uses sqlite3 becomes a sweep, and stays one test."""

import re

import pytest
from marked_project import ADD, TEST_OF_TASKS, counts, run, run_test

pytest_plugins = ["pytester"]


# -- the reported bug ---------------------------------------------------------------------------------------


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


# -- what is tried ------------------------------------------------------------------------------------------


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
