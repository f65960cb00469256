"""diskcache as it is: silent in its default configuration, and a real defect with a rollback journal."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Arm, Call, Limit, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.run.reproduce.replay_file import Verdict, read, replay, write
from tornpage.scenarios.search.recorder import Recorder

pytest.importorskip("diskcache", reason="the extra is not installed")

from tornpage.scenarios.targets.libraries.disk_cache import DiskCache

# diskcache closes no connection when opening one fails half-way; Python 3.13 warns of that when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DEFAULT = Configuration("wal", "NORMAL")
ROLLBACK = Configuration("delete", "FULL")


def at(configuration: Configuration) -> DiskCache:
    target = DiskCache()
    target.configurations = (configuration,)
    return target


@pytest.mark.slow
def test_in_its_default_configuration_a_sample_of_all_points_finds_nothing(search: Callable[..., Recorder]) -> None:
    recorder = search(at(DEFAULT), points=15, seed=3)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.vacuous == []
    assert recorder.count("fired") > 100


@pytest.mark.slow
def test_its_scenarios_are_told_too(search: Callable[..., Recorder]) -> None:
    recorder = search(at(DEFAULT), "fuzz", scenarios=20, steps=10)
    assert recorder.vacuous == []
    # Without memory for the rest of a call its transaction stays open, and that is all that is wrong.
    assert all(any(isinstance(step, Limit) for step in one.finding.scenario.steps) for one in recorder.findings)


@pytest.mark.slow
@pytest.mark.quality
def test_with_a_rollback_journal_a_busy_commit_leaves_the_transaction_open_and_is_found(
    search: Callable[..., Recorder], shim: faults.Shim, home: Path
) -> None:
    recorder = search(at(ROLLBACK), points=60)
    codes = {found.finding.code for found in recorder.findings}
    assert codes & {"memory-equals-disk", "still-usable-after-the-fault"}
    (finding, *_) = (found.finding for found in recorder.findings if "BUSY" in str(found.finding.scenario))
    file = write(finding, home / "report", seed=0)
    assert replay(read(file), DiskCache(), home)[0] is Verdict.FAILED


@pytest.mark.quality
def test_the_busy_commit_is_the_shortest_scenario_there_is(shim: faults.Shim, home: Path) -> None:
    first, second = (Call(Action("set", {"key": "beta", "value": value})) for value in (1, 2))
    # SHARED and RESERVED at BEGIN are granted, and what COMMIT asks for is refused.
    scenario = Scenario("diskcache", ROLLBACK, (first, Arm("lock:db@3..=BUSY"), second))
    violation, _ = play(scenario, DiskCache(), home)
    assert violation is not None
    assert violation.code == "memory-equals-disk"
    wal = Scenario("diskcache", DEFAULT, scenario.steps)
    assert play(wal, DiskCache(), home)[0] is None


def test_its_clock_is_virtual_so_that_a_minute_of_waiting_takes_none(shim: faults.Shim, home: Path) -> None:
    step = Call(Action("set", {"key": "beta", "value": 1}))
    scenario = Scenario("diskcache", DEFAULT, (step, Arm("shmlock:db@1..=BUSY"), step))
    _, counts = play(scenario, DiskCache(), home)
    assert counts["raised"] == 1
