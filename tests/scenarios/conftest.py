"""What the tests of the harness share: the shim, tiny stores as targets, and the command in this process or its own."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage import faults

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]

# `tiny_stores` is a module that a user would name on the command line, and so do the tests.
sys.path.insert(0, str(HERE))

import marked_project  # noqa: E402 - found only now
import tiny_stores  # noqa: E402

from tornpage.faults.garbage import collect  # noqa: E402
from tornpage.scenarios.cli import main, one_run  # noqa: E402
from tornpage.scenarios.model.plan import Plan, Profile  # noqa: E402
from tornpage.scenarios.model.target import Target  # noqa: E402
from tornpage.scenarios.run.campaign import run  # noqa: E402
from tornpage.scenarios.run.scratch import scratch  # noqa: E402
from tornpage.scenarios.search.recorder import Recorder  # noqa: E402


@pytest.fixture
def shim() -> Iterator[faults.Shim]:
    """The shim, installed for the test."""
    with faults.install() as installed:
        yield installed


@pytest.fixture(autouse=True, scope="module")
def older_objects_are_frozen() -> None:
    """Let the garbage collector leave alone what pytest and all modules of tests have made.

    A search looks for open connections among all other objects. It freezes older ones itself, but has to look through
    them first; and what earlier modules of tests have left would be looked through in all later ones.
    """
    faults.freeze()


@pytest.fixture(autouse=True)
def quiet_ledger() -> Iterator[None]:
    """Thousands of armed faults are no news, and pytest would keep the ledger's warning of each."""
    logger = logging.getLogger("ledger")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def close_what_leaked() -> Iterator[None]:
    """The stores that leak on purpose keep their connections in a list."""
    yield
    while tiny_stores.LEAKED:
        tiny_stores.LEAKED.pop().close()


@pytest.fixture
def collected() -> Iterator[None]:
    """Connections that a store leaves to the collector go with the test whose they are, and not in a later one."""
    yield
    collect()


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for stores, in memory where there is such a place, as a campaign has it."""
    with scratch() as directory:
        yield directory


Search = Callable[..., Recorder]


@pytest.fixture
def search() -> Search:
    """Runs a campaign without replay files: every fault point, or up to so many of each call.

    `configurations`: how many of the target's, and `most_findings` when it ends; a finding costs a hundred points.
    """

    def searched(
        target: Target,
        *names: str,
        points: int | None = None,
        seed: int = 0,
        configurations: int | None = None,
        most_findings: int = 25,
        **sizes: int,
    ) -> Recorder:
        scenarios, steps, states = sizes.get("scenarios", 0), sizes.get("steps", 0), sizes.get("crash_states")
        profile = Profile(
            "test", configurations, points, scenarios, steps, states, sizes.get("kills", 0), shrinks=False
        )
        plan = Plan(names or ("sweep",), profile, seed=seed, report=None, most_findings=most_findings)
        return run(target, plan)

    return searched


class Ran:
    """What the command came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n--- standard error\n{self.err}"


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., Ran]]:
    """Runs ``tornpage`` in this process, in a directory of the test's own, whose modules are no other test's."""
    monkeypatch.chdir(tmp_path)
    # Where the tests themselves run on GitHub, their failing runs are none of its business.
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def called(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["tornpage", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    yield called
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def quick_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `command` searches by default, for tests to which a few points of one configuration show enough."""
    small = Profile("quick", 1, 8, 10, 5, 2, kills=2, rival_points=2, limit_points=2, shrinks=False, schedules=30)
    monkeypatch.setitem(one_run.PROFILES, "quick", small)


@pytest.fixture
def few_mutants(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """General mutants of some files only: to make all of them takes ten seconds."""
    from tornpage.scenarios.selftest.mutants import general

    some = ("ledger/rules/times.py", *general.files()[::12])
    monkeypatch.setattr(general, "files", lambda: some)
    general.general_mutants.cache_clear()
    yield
    general.general_mutants.cache_clear()


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts Python in a process of its own, with the project and the tiny stores on its path."""

    def started(code: str, *arguments: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(HERE)]), "COLUMNS": "120"}
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return started


@pytest.fixture
def tornpage(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``tornpage`` as a real process."""
    return lambda *arguments: start("from tornpage.scenarios.cli import main; main()", *arguments)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project whose tests carry markers, for modules with the plugin `pytester`."""
    return marked_project.make(pytester, monkeypatch)
