"""A finding explained step by step, and a finding as a test: both say what a replay says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.cli import replays
from tornpage.scenarios.execution.finding.trace import Trace, trace_of
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.scenario import Arm, Call, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.run.reproduce import replay_file as reproducer
from tornpage.scenarios.run.reproduce.code_digest import code_of
from tornpage.scenarios.run.reproduce.emit_test import as_test_file, require_holds
from tornpage.scenarios.targets.registry import find

Command = Callable[..., Any]

DELETE_FIRST = Scenario(
    "bug:delete-memory-first",
    Configuration("wal", "FULL"),
    (
        Call(Action("tasks.create", {"id": "a", "runtime": "cli", "requester_session_key": "main", "task": "work"})),
        Arm("write:wal@1=FULL"),
        Call(Action("tasks.delete", {"task_id": "a"})),
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    finding = Finding("memory-equals-disk", 'it says """no"""', DELETE_FIRST, {}, "sweep")
    return reproducer.write(finding, tmp_path / "report", seed=1)


def test_a_told_scenario_shows_the_first_difference_side_by_side(command: Command, path: Path) -> None:
    ran = command("replay", path, "--explain", "--json")
    assert ran.code == 1, ran
    told = json.loads(ran.out)
    assert (told["check"], told["first_difference"]) == ("memory-equals-disk", 3)
    assert [step["outcome"] for step in told["moments"]][:2] == ["acknowledged", "armed"]
    (row,) = told["rows"]
    assert row["key"] == "task/a"
    assert row["sides"]["memory"] is None
    assert row["sides"]["disk"] == row["sides"]["reopened"] is not None


def test_a_told_scenario_is_readable(command: Command, path: Path) -> None:
    ran = command("replay", path, "--explain")
    assert ran.code == 1, ran
    assert "» 3. tasks.delete(task_id='a')" in ran.out
    assert "nothing" in ran.out
    assert "memory-equals-disk" in ran.out


def test_a_told_scenario_without_a_difference_says_that_every_check_holds(command: Command, path: Path) -> None:
    ran = command("replay", path, "--explain", "--target", "reference")
    assert ran.code == 0, ran
    assert "every check passes" in ran.out
    assert "\nFIXED: memory-equals-disk" in ran.out
    assert "»" not in ran.out


@pytest.mark.parametrize("as_json", [True, False])
def test_what_only_a_replay_without_reads_between_the_steps_shows_is_no_pass(
    command: Command, path: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    monkeypatch.setattr(replays, "trace_of", lambda *_: Trace())
    ran = command("replay", path, "--explain", *(["--json"] if as_json else []))
    assert ran.code == 1, ran
    assert "every check passes" not in ran.out
    assert "seen when it is played without the reads between the steps" in ran.out
    assert as_json or "\nFAILED: memory-equals-disk" in ran.out


def test_a_scenario_that_shows_nothing_of_unchanged_code_is_not_reproduced_when_told(
    command: Command, tmp_path: Path
) -> None:
    finding = Finding(
        "memory-equals-disk", "no", msgspec.structs.replace(DELETE_FIRST, target="reference"), {}, "sweep"
    )
    path = reproducer.write(finding, tmp_path / "report", seed=1, code=code_of(find("reference")))
    ran = command("replay", path, "--explain")
    assert ran.code == 2, ran
    assert "NOT REPRODUCED: memory-equals-disk" in ran.out


def test_a_view_that_cannot_be_taken_is_said_and_not_hidden(tmp_path: Path, shim: faults.Shim) -> None:
    class Blind(tiny_stores.TinySession):
        def live_view(self) -> dict[str, Any]:
            raise RuntimeError("no view today")

    class BlindStore(tiny_stores.Tiny):
        session = Blind

    told = trace_of(
        Scenario("tiny", Configuration(), (Call(Action("put", {"key": "a", "value": 1})),)), BlindStore(), tmp_path
    )
    assert told.check == "still-usable-after-the-fault"
    assert told.moments[-1].lanes["memory"].reason == "no view today"


def test_a_scenario_that_kills_its_process_is_not_told_in_this_one(tmp_path: Path, shim: faults.Shim) -> None:
    steps = (Arm("write:wal@1=KILL"), Call(Action("put", {"key": "a", "value": 1})))
    told = trace_of(Scenario("tiny", Configuration(), steps), tiny_stores.Tiny(), tmp_path)
    assert (told.moments, "killed" in told.reason) == ((), True)


@pytest.mark.slow
def test_an_emitted_test_fails_on_the_bug_and_passes_on_the_reference(
    command: Command, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ends = {}
    for target in ("bug:delete-memory-first", "reference"):
        ran = command("replay", path, "--emit-test", "--target", target)
        assert ran.code == 0, ran
        name = ran.out.split()[0]
        again = command("replay", path, "--emit-test", "--target", target)
        assert again.code == 2
        assert "nothing was overwritten" in again.err
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        ends[target] = done.returncode, done.stdout
    assert ends["reference"][0] == 0, ends
    assert ends["bug:delete-memory-first"][0] == 1, ends
    assert "memory-equals-disk" in ends["bug:delete-memory-first"][1]


def test_an_emitted_test_is_python_whatever_the_message_says(path: Path) -> None:
    name, text = as_test_file(reproducer.read(path), 'odd""".json', "module.sub:Name-1")
    compile(text, name, "exec")
    assert name == "test_module_sub_name_1_memory_equals_disk.py"


def test_a_scenario_whose_faults_never_fire_shows_nothing(tmp_path: Path) -> None:
    scenario = json.dumps(
        {
            "target": "tiny",
            "configuration": {"journal_mode": "wal", "synchronous": "FULL"},
            "steps": [
                {"type": "arm", "plan": "write:wal@99=FULL", "depth": "vfs"},
                {"type": "call", "action": {"name": "put", "args": {"key": "a", "value": 1}}},
            ],
        }
    )
    with pytest.raises(AssertionError, match="none of the 1 faults"):
        require_holds(scenario, tiny_stores.Tiny(), tmp_path)


def test_explaining_and_emitting_exclude_each_other(command: Command, path: Path) -> None:
    ran = command("replay", path, "--explain", "--emit-test")
    assert ran.code == 2
    assert "exclude each other" in ran.err
