"""Every finding shows a scenario that is true: it fails again on the store that it was found in, needs the fault that
it shows, makes calls that the target makes, and does not fail on a sound twin of that store."""

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import twin_stores

from tornpage import faults
from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.execution.finding.shrink import NO_FAULT, without_faults
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.run.reproduce import replay_file
from tornpage.scenarios.run.reproduce.replay_file import Verdict, playing
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import

HERE = Path(__file__).parent
SMALL = Profile(
    "small", 2, 20, scenarios=40, steps=12, crash_states=12, kills=6, rival_points=6, limit_points=8, shrinks=False
)


FEW = Profile("few", 1, 8, 0, 0, rival_points=4, limit_points=4, shrinks=False)


def searched(target: Target, *searches: str, profile: Profile = SMALL) -> Recorder:
    return run(target, Plan(searches, profile, report=None))


def require_true(finding: Finding, target: Target, twin: Target | None, home: Path) -> None:
    """The finding's file, as another process would read it, replays as it has to on both."""
    read = replay_file.read(replay_file.write(finding, home, seed=0))
    verdict, lines = replay_file.replay(read, target, home / "itself")
    assert verdict is Verdict.FAILED, (str(finding.scenario), finding.message, lines)
    assert lines[0].partition(":")[0] == finding.code
    workload = {*map(str, target.workload()), str(target.heartbeat())}
    made = {str(step.action) for step in finding.scenario.steps if isinstance(step, Call)}
    assert made <= workload or finding.search == "fuzz"
    plain = without_faults(finding.scenario)
    if plain.steps != finding.scenario.steps:
        with playing(plain, target, home / "plain") as play:
            fails_without = play(plain, target, home / "plain")[0]
            assert fails_without is None or f"without the fault {fails_without.code} fails" in finding.message
    elif finding.search in ("sweep", "limits", "contend"):
        assert NO_FAULT in finding.message or finding.scenario.steps == plain.steps
    if twin is not None:
        there = msgspec.structs.replace(read, scenario=msgspec.structs.replace(read.scenario, target=twin.name))
        verdict, lines = replay_file.replay(there, twin, home / "twin")
        assert verdict is Verdict.FIXED, (str(finding.scenario), finding.message, lines)


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", twin_stores.TWINS)
def test_each_finding_fails_again_on_its_store_and_not_on_the_twin(name: str, home: Path, shim: faults.Shim) -> None:
    target, twin = (find_or_import(f"twin_stores:{one}") for one in (name, twin_stores.TWINS[name]))
    recorder = searched(target, "sweep", "crash", "contend", "limits", "kill", "fuzz")
    assert recorder.findings
    for number, found in enumerate(recorder.findings):
        assert found.finding.shows_again, str(found.finding.scenario)
        require_true(found.finding, target, twin, home / str(number))


# Only a sweep makes `SwallowsFull` meet a full disk in a call: its few pages fit into what is there.
@pytest.mark.parametrize(
    ("name", "searches"),
    [("MemoryFirst", "by sweep and "), ("SwallowsFull", "by sweep: "), ("StampsFirst", "by sweep and ")],
)
def test_one_cause_is_told_once_with_where_else_it_was_seen(name: str, searches: str) -> None:
    recorder = searched(find_or_import(f"twin_stores:{name}"), "sweep", "contend", "limits", profile=FEW)
    told = [found.finding for found in recorder.findings]
    assert len({recorder.group_of(finding) for finding in told}) == len(told)
    assert len(told) <= 5
    assert sum(recorder.times_seen(finding) for finding in told) > 5
    assert any(searches in line for finding in told for line in recorder.also_at(finding))


PROGRAMS = {
    "python": (f"{shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'speaking_stores.py'))}", ""),
    "php": (f"php {shlex.quote(str(HERE / 'notes.php'))}", " sound"),
}


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.skipif(why_unavailable() is not None, reason="needs strace")
@pytest.mark.parametrize("language", PROGRAMS)
def test_a_programs_findings_keep_arguments_and_fault_and_are_fixed_in_the_sound_one(
    language: str, tmp_path: Path
) -> None:
    command, sound = PROGRAMS[language]
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"needs {language}")
    target, twin = (find_or_import(f"command:{command}{word}") for word in (" memory-first", sound))
    recorder = searched(target, "syscalls")
    assert recorder.findings
    for number, found in enumerate(recorder.findings):
        finding = found.finding
        assert finding.code == "memory-equals-disk"
        assert finding.scenario.steps != without_faults(finding.scenario).steps
        require_true(finding, target, twin, tmp_path / str(number))


# -- what can't be shown again ------------------------------------------------------------------------------


def test_what_a_scenario_does_not_show_again_is_not_reproduced_and_not_fixed(
    home: Path, shim: faults.Shim, command: Callable[..., object], tmp_path: Path
) -> None:
    recorder = searched(twin_stores.Moody(), "sweep", profile=FEW)
    assert recorder.findings
    assert not any(found.finding.shows_again for found in recorder.findings)
    finding = recorder.findings[0].finding
    assert "played again, does not show it" in finding.message
    path = replay_file.write(finding, tmp_path, seed=0)
    ran: object = command("replay", path, "--target", "twin_stores:Sound")
    assert ran.code == 2, ran  # type: ignore[attr-defined]
    assert "NOT REPRODUCED" in ran.out  # type: ignore[attr-defined]
