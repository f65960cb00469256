"""What all tests share: a process that can be interrupted, and a SQLite with hidden symbols."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

DOCS = Path(__file__).parents[1] / "docs"
# Where the directories of tests are, if there is such a place and it has room for two processes' tests.
MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a private folder there
NEEDED_BYTES = 4 * 2**30
BUILD_HIDDEN_SQLITE = Path(__file__).parent / "environments" / "hidden_sqlite.py"


def _has_room(directory: Path) -> bool:
    return os.access(directory, os.W_OK) and shutil.disk_usage(directory).free > NEEDED_BYTES


def pytest_configure() -> None:
    """A shell that starts a run in the background lets it ignore SIGINT, and every child would inherit that.

    The tests of Ctrl-C would then wait for an end that never comes.

    Commands that the tests start work in one process unless a test says otherwise: on as many processors as there are,
    each would start that many more.

    Hypothesis judges no test by its time: on a loaded machine a second may pass between two lines. The tests of the
    built wheel have no Hypothesis.
    """
    with contextlib.suppress(ModuleNotFoundError):
        import hypothesis

        slow = [hypothesis.HealthCheck.too_slow]
        hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=slow)
        hypothesis.settings.load_profile("tests")
    os.environ.setdefault("TORNPAGE_JOBS", "1")
    if "TMPDIR" not in os.environ and _has_room(MEMORY):
        # Half of the time of a test that syncs is the disk's.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each property is tried with the same examples in each run, and a failure of CI is a failure everywhere."""
    # Where no test uses it, it need not be installed.
    if (hypothesis := sys.modules.get("hypothesis")) is not None:
        for item in items:
            if isinstance(item, pytest.Function) and hypothesis.is_hypothesis_test(item.obj):
                hypothesis.seed(0)(item.obj)


@pytest.fixture(scope="session")
def hidden_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder whose ``_sqlite3`` shows no function of SQLite; put it first on a child's PYTHONPATH.

    Built once: in the folder that TORNPAGE_HIDDEN_SQLITE names, where it is kept from run to run (tox does that), or in
    a temporary one that the processes of pytest-xdist share. Where it can't be had the test is skipped with the reason,
    and fails with it in CI, which sets TORNPAGE_COMPLETE.
    """
    kept = os.environ.get("TORNPAGE_HIDDEN_SQLITE")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = Path(kept or shared / "hidden-sqlite") / str(sysconfig.get_config_var("SOABI"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        done = subprocess.run(
            [sys.executable, BUILD_HIDDEN_SQLITE, "--into", folder], capture_output=True, text=True, check=False
        )
    if done.returncode:
        (pytest.fail if os.environ.get("TORNPAGE_COMPLETE") else pytest.skip)(done.stderr.strip())
    return folder


@pytest.fixture
def as_documented(tmp_path: Path) -> Callable[..., None]:
    """Runs the files of a how-to whose examples need more than the tests of the documents have.

    Its blocks of ``py`` are files, and the line of each test in its ``text`` block has to come true.
    """

    def run(name: str, **environment: str) -> None:
        document = (DOCS / name).read_text()
        for file, source in re.findall(r"^```py\n# (\S+)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL):
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        expected = re.findall(r"^(test_\S+) (PASSED|FAILED|ERROR)$", document, re.MULTILINE)
        inherited = {key: value for key, value in os.environ.items() if key != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-p", "no:randomly"],
            cwd=tmp_path, env={**inherited, **environment}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        seen = re.findall(r"^(PASSED|FAILED|ERROR) (test_\S+)", done.stdout, re.MULTILINE)
        outcomes = {test: outcome for outcome, test in seen}
        assert expected
        assert outcomes == dict(expected), done.stdout + done.stderr

    return run


@pytest.fixture
def rivals_started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes of rivals that the test starts, by their ids."""
    from tornpage.faults.contention.process import RivalProcess

    started: list[int] = []
    begin = RivalProcess.__init__

    def noted(self: RivalProcess) -> None:
        begin(self)
        started.append(self.pid)

    monkeypatch.setattr(RivalProcess, "__init__", noted)
    return started
