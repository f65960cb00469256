"""On GitHub a defect is one mark on one line; a run that holds says nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from run_records import found, record, scenario, vacuous

from tornpage.scenarios.model.scenario import Limit
from tornpage.scenarios.report.github import MOST_ANNOTATIONS, annotations, tell
from tornpage.scenarios.targets.known_bugs.build import MemoryFirst

Command = Callable[..., Any]
BUILD = Path(__file__).parents[2] / "scenarios/targets/known_bugs/build.py"


def test_a_finding_is_an_error_on_its_line_with_its_replay() -> None:
    (line,) = annotations(record(found())).splitlines()
    head, _, text = line.removeprefix("::error ").partition("::")
    assert head == "file=store.py,line=12,title=tornpage%3A memory-equals-disk on tiny"
    assert text.endswith("%0AReproduce with: tornpage replay .tornpage/tiny.json")


def test_what_would_end_a_command_is_escaped() -> None:
    run = record(found(where="a,b:c.py:3", message="100 %\r\n::error::no", replay="tornpage replay 'x'"))
    (line,) = annotations(run).splitlines()
    assert line.startswith("::error file=a%2Cb%3Ac.py,line=3,title=")
    assert "100 %25%0D%0A::error::no" in line


def test_several_checks_at_one_line_are_one_mark_with_the_shortest_way_to_it() -> None:
    long = scenario()
    long = msgspec.structs.replace(long, steps=(*long.steps, *long.steps))
    run = record(found(told=long, replay="the long way"), found("all-or-nothing", replay="the short way"))
    (line,) = annotations(run).splitlines()
    assert "title=tornpage%3A all-or-nothing on tiny" in line
    assert "1 more finding here: memory-equals-disk" in line
    assert "the short way" in line
    assert "the long way" not in line


def test_one_check_that_fails_in_one_call_for_two_causes_is_one_mark() -> None:
    under_limit = msgspec.structs.replace(scenario(), steps=(Limit("pages", 1), *scenario().steps))
    run = record(found(), found(told=under_limit, where="store.py:15"))
    (line,) = annotations(run).splitlines()
    assert "line=12" in line
    assert "1 more finding here" in line
    assert len(annotations(record(found(), found(told=scenario("move"), where="store.py:15"))).splitlines()) == 2


def test_a_finding_without_a_place_is_told_all_the_same() -> None:
    assert annotations(record(found(where=""))).startswith("::error title=tornpage%3A memory-equals-disk")


def test_no_more_marks_than_github_shows() -> None:
    run = record(*(found(told=scenario(f"put_{line}"), where=f"store.py:{line}") for line in range(1, 31)))
    lines = annotations(run).splitlines()
    assert len(lines) == MOST_ANNOTATIONS
    assert lines[-1] == "::error title=tornpage::and 21 more places: see the log"


def test_a_run_that_holds_makes_no_noise() -> None:
    assert annotations(record()) == ""
    assert annotations(record(accepted=(found(),))) == ""


def test_what_makes_the_verdict_less_than_it_looks_is_told() -> None:
    (line,) = annotations(vacuous(record())).splitlines()
    assert line == "::error title=tornpage%3A not tested::sweep: no fault fired at all"
    (line,) = annotations(record(complete=False)).splitlines()
    assert line.startswith("::warning title=tornpage%3A partial::")
    (line,) = annotations(record(verdict="NOT_TESTED", exit_code=2)).splitlines()
    assert line.startswith("::error title=tornpage%3A not tested::tiny: nothing happened")
    (line,) = annotations(record(baseline_notes=("expired on 2026-01-01",))).splitlines()
    assert line == "::warning title=tornpage%3A baseline::expired on 2026-01-01"


def test_elsewhere_than_on_github_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    assert tell(record(found()), "text", {"GITHUB_STEP_SUMMARY": str(path)}) == ""
    assert not path.exists()


def test_the_summary_is_added_to_what_the_step_has_said_already(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    assert tell(record(), "text\n", {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(path)}) == ""
    assert path.read_text() == "before\ntext\n"


def test_a_place_is_named_from_the_workspace_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend/store.py").write_text("")
    monkeypatch.chdir(tmp_path / "backend")
    assert "file=backend/store.py,line=12" in annotations(record(found()), tmp_path)


@pytest.fixture
def on_github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    return summary


def test_the_gate_on_a_branch_with_a_known_bug(command: Command, on_github: Path) -> None:
    ran = command(
        "sweep", "--target", "bug:update-memory-first", "--configuration", "wal/FULL", "--plan", "commit@1=FULL"
    )
    assert ran.code == 1
    (mark,) = [line for line in ran.err.splitlines() if line.startswith("::")]
    overridden = MemoryFirst._persist.__code__.co_firstlineno
    assert mark.startswith(f"::error file=tornpage/scenarios/targets/known_bugs/build.py,line={overridden},title=")
    assert BUILD.read_text().splitlines()[overridden - 1].strip().startswith("def _persist")
    assert ran.out.count("tornpage replay") == 1
    assert mark.count("tornpage replay") == on_github.read_text().count("tornpage replay") == 1
    assert command(*mark.rpartition("tornpage ")[2].split()).code == 1


def test_the_gate_on_the_reference(command: Command, on_github: Path) -> None:
    ran = command("sweep", "--configuration", "wal/FULL", "--plan", "commit@1=FULL", "--quiet")
    assert ran.code == 0, ran
    assert ran.err == ""
    assert "::" not in ran.out
    assert "reference: HOLDS" in on_github.read_text()


def test_json_stays_json_on_github(command: Command, on_github: Path) -> None:
    ran = command(
        "sweep", "--target", "tiny_stores:RemembersFirst", "--configuration", "wal/FULL", "--plan", "commit@1=FULL",
        "--json",
    )  # fmt: skip
    assert ran.code == 1
    data = msgspec.json.decode(ran.out)
    assert {finding["where"].partition(":")[0] for finding in data["findings"]} == {"tiny_stores.py"}
    assert ran.err.count("::error file=") == 1
