"""The marker `every_fault`: tests that can't be swept, and what the session shows."""

import re
from xml.etree import ElementTree

import pytest
from marked_project import ADD, SWALLOWS, TEST_OF_TASKS, counts, run, run_test

pytest_plugins = ["pytester"]


# -- tests that can't be swept ------------------------------------------------------------------------------


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


# -- what the session shows ----------------------------------------------------------------------------------


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
