"""tornpage beside the plugins that other projects have: installed together, each does what it does without tornpage.

The folder `project` is a project of somebody else with all of them: a marked and an unmarked test for each. It is run
as its owner would, in a process of its own. ``tox -e guests`` installs them; without them all this is skipped.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

GUESTS = (
    "aiosqlite", "anyio", "pytest_asyncio", "pytest_benchmark", "pytest_cov", "pytest_django", "pytest_randomly",
    "pytest_rerunfailures", "pytest_subtests", "pytest_timeout", "sqlalchemy", "trio", "xdist",
)  # fmt: skip
MISSING = [name for name in GUESTS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; tox -e guests has them"),
]

EXPECTED = {
    "test_aiosqlite_.test_marked": "passed",
    "test_aiosqlite_.test_marked_fails": "failed",
    "test_aiosqlite_.test_marked_that_never_closes": "passed",
    "test_aiosqlite_.test_marked_twin": "passed",
    "test_aiosqlite_.test_marked_twin_fails": "failed",
    "test_aiosqlite_.test_unmarked": "passed",
    "test_anyio_.test_marked": "passed",
    "test_anyio_.test_unmarked": "passed",
    "test_asyncio_.test_marked": "passed",
    "test_asyncio_.test_unmarked": "passed",
    "test_benchmark.test_marked": "passed",
    "test_benchmark.test_marked_without_measuring": "passed",
    "test_benchmark.test_unmarked": "passed",
    "test_cancelled.test_marked": "passed",
    "test_cancelled.test_marked_by_anyio": "passed",
    "test_cancelled.test_marked_by_anyio_fails": "failed",
    "test_cancelled.test_marked_connection": "passed",
    "test_cancelled.test_marked_engine": "passed",
    "test_cancelled.test_marked_fails": "failed",
    "test_cancelled.test_marked_in_a_nursery": "passed",
    "test_cancelled.test_marked_in_a_nursery_fails": "failed",
    "test_django.TestInATransaction.test_refused": "refused",
    "test_django.TestInATransaction.test_unmarked": "passed",
    "test_django.TestOfTransactions.test_marked": "passed",
    "test_django.TestOfTransactions.test_unmarked": "passed",
    "test_django.test_marked": "passed",
    "test_django.test_marked_fails": "failed",
    "test_django.test_marked_interleave": "passed",
    "test_django.test_refused_interleave": "refused",
    "test_django.test_unmarked": "passed",
    "test_django.test_unmarked_in_a_transaction": "passed",
    "test_interleaved.test_marked[asyncio]": "passed",
    "test_interleaved.test_marked[trio]": "passed",
    "test_interleaved.test_marked_cancelled_task[asyncio]": "passed",
    "test_interleaved.test_marked_cancelled_task[trio]": "passed",
    "test_interleaved.test_marked_cut[asyncio]": "passed",
    "test_interleaved.test_marked_cut[trio]": "passed",
    "test_interleaved.test_marked_cut_fails[asyncio]": "failed",
    "test_interleaved.test_marked_cut_fails[trio]": "failed",
    "test_interleaved.test_marked_fails[asyncio]": "failed",
    "test_interleaved.test_marked_in_a_task_fails[asyncio]": "failed",
    "test_interleaved.test_marked_in_a_task[asyncio]": "passed",
    "test_interleaved.test_marked_fails[trio]": "failed",
    "test_interleaved.test_marked_in_a_task_fails[trio]": "failed",
    "test_interleaved.test_marked_in_a_task[trio]": "passed",
    "test_interleaved.test_marked_on_threads": "passed",
    "test_interleaved.test_unmarked[asyncio]": "passed",
    "test_interleaved.test_unmarked[trio]": "passed",
    "test_plain.test_marked": "passed",
    "test_plain.test_marked_fails": "failed",
    "test_plain.test_unmarked": "passed",
    "test_randomly.test_marked": "passed",
    "test_randomly.test_unmarked": "passed",
    "test_rerunfailures.test_marked_fails": "failed",
    "test_rerunfailures.test_unmarked_passes_at_the_second_try": "passed",
    "test_subtests.TestOfUnittest.test_marked": "passed",
    "test_subtests.TestOfUnittest.test_marked_fails": "failed",
    "test_subtests.TestOfUnittest.test_unmarked": "passed",
    "test_subtests.test_marked": "passed",
    "test_subtests.test_marked_fails": "failed",
    "test_subtests.test_unmarked": "passed",
    "test_timeout.test_marked": "passed",
    "test_timeout.test_marked_fails": "failed",
    "test_timeout.test_unmarked_fails": "failed",
}


def run(directory: Path, *arguments: str) -> tuple[dict[str, str], str]:
    """What became of each test of the project, and what was printed."""
    project = directory / "project"
    shutil.copytree(Path(__file__).parent / "project", project)
    # The tests here may be run without plugins; the project never is.
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--junitxml", directory / "junit.xml", "-rA", *arguments],
        cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1, said  # Tests failed, as some should; neither an internal error nor wrong usage.
    cases = ElementTree.parse(directory / "junit.xml").iter("testcase")  # noqa: S314 - pytest has just written it
    return {f"{case.get('classname')}.{case.get('name')}": outcome(case) for case in cases}, said


def outcome(case: ElementTree.Element) -> str:
    for tag, name in (("failure", "failed"), ("error", "refused"), ("skipped", "skipped")):
        if case.find(tag) is not None:
            return name
    return "passed"


def test_each_plugin_does_what_it_does_alone(tmp_path: Path) -> None:
    outcomes, said = run(tmp_path, "-p", "randomly", "--randomly-seed=5")
    assert outcomes == EXPECTED, said
    assert "Using --randomly-seed=5" in said
    assert "Timeout (>0.2s) from pytest-timeout" in said
    assert "1 rerun" in said
    # The same statements come to the same, on whatever thread they run.
    points = dict(re.findall(r"FAILED test_aiosqlite_.py::(\w+) - (\d+ of \d+) fault points", said))
    assert points["test_marked_fails"] == points["test_marked_twin_fails"], said
    assert re.search(r"test_marked_that_never_closes: \d+ threads? left behind after a fault: ", said) is None
    swept = re.search(r"every_fault: (\d+) tests, (\d+) fault points: (\d+) fired", said)
    assert swept is not None, said
    tests, points, fired = map(int, swept.groups())
    others = ("test_cancelled.", "test_interleaved.", "test_django.test_marked_interleave")
    assert tests == sum("test_marked" in name and not name.startswith(others) for name in EXPECTED)
    assert fired == points > 10 * tests


def test_so_they_do_over_processes_with_coverage(tmp_path: Path) -> None:
    files = ("test_django", "test_plain", "test_rerunfailures")
    several = ("-n", "2", "--cov=store", "--cov-report=term-missing", "--benchmark-disable")
    outcomes, said = run(tmp_path, *several, *(f"{file}.py" for file in files))
    assert outcomes == {name: ended for name, ended in EXPECTED.items() if name.startswith(files)}, said
    # Each line of the store ran under pytest-cov's measurement; that the sweep measures itself takes nothing from it.
    assert "100%" in next(line for line in said.splitlines() if line.startswith("store.py"))


def test_the_examples_of_asynchronous_code_run(as_documented: Callable[..., None]) -> None:
    as_documented("async.md")


def test_the_examples_of_django_code_run(as_documented: Callable[..., None]) -> None:
    as_documented("django.md", DJANGO_SETTINGS_MODULE="shop.settings")
