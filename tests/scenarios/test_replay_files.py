"""Replay files: they come back as they were written, a bad one is refused with its reason, and verdicts are right."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario
from tornpage.scenarios.model.target import Action, Configuration, TargetError
from tornpage.scenarios.run.reproduce import replay_file as reproducer
from tornpage.scenarios.run.reproduce.replay_file import ReplayFileError, Verdict
from tornpage.scenarios.search.recorder import Recorder

SCENARIO = Scenario(
    "tiny",
    Configuration("wal", "FULL"),
    (
        Call(Action("put", {"key": "a", "value": 1})),
        Restart(crash=True),
        Arm("write:wal@1..=FULL"),
        Call(Action("put", {"key": "a", "value": 2})),
        Clear(),
        Restart(),
    ),
)
FINDING = Finding("memory-equals-disk", "it differs", SCENARIO, {"memory": {"a": 2}, "disk": {"a": 1}}, "sweep")

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return reproducer.write(FINDING, tmp_path / "report", seed=5)


def edited(path: Path, edit: Edit) -> Path:
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(ReplayFileError, match=message) as found:
        reproducer.read(path)
    assert path.name in str(found.value)


def test_a_file_comes_back_as_it_was_written(path: Path) -> None:
    read = reproducer.read(path)
    assert (read.check, read.message, read.scenario, read.sides) == (
        FINDING.code,
        FINDING.message,
        SCENARIO,
        FINDING.sides,
    )
    assert (read.seed, read.search, read.format, read.version) == (5, "sweep", "tornpage-replay", 2)
    assert read.origin == reproducer.origin()
    assert path.name.startswith("tiny-memory-equals-disk-")


def test_the_same_finding_has_the_same_name_and_another_scenario_another(path: Path, tmp_path: Path) -> None:
    assert reproducer.write(FINDING, tmp_path / "report", seed=6) == path
    other = Finding(FINDING.code, "", Scenario("tiny", SCENARIO.configuration, SCENARIO.steps[:2]), {}, "fuzz")
    assert reproducer.write(other, tmp_path / "report", seed=5) != path


@pytest.mark.parametrize("kept", [0, 1, 100, -2])
def test_a_truncated_file_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes().rstrip()[:kept])
    refused(path, "not a replay file, or only a part of one")


def test_a_newer_version_is_refused_and_says_so_whatever_else_is_in_it(path: Path) -> None:
    path.write_text(json.dumps({"format": "tornpage-replay", "version": 3, "new": "field"}))
    refused(path, "written by a newer tornpage .*upgrade")


@pytest.mark.parametrize("content", ["{}", '{"format": "junit"}', '{"format": "tornpage-scenario", "version": 1}'])
def test_another_format_is_refused(path: Path, content: str) -> None:
    path.write_text(content)
    refused(path, "is JSON, but not a replay file")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\0" * 100, b"SQLite format 3\0", b"cos\nsystem\n(S'id'\ntR."])
def test_what_is_no_text_is_refused_and_never_unpickled(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused(path, "not a replay file")


def test_a_file_that_is_too_large_is_refused_before_it_is_read_to_its_end(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(10**12)
    refused(path, "larger than")


def test_a_file_that_is_not_there_or_a_directory_is_refused(path: Path) -> None:
    refused(path.with_name("missing.json"), "No such file")
    refused(path.parent, "directory")


BAD: list[tuple[Edit, str]] = [
    (lambda content: content.update(more=1), "unknown field"),
    (lambda content: content.pop("check"), "check"),
    (lambda content: content.update(seed="5"), "seed"),
    (lambda content: content.update(version="1"), "version"),
    (
        lambda content: content["scenario"]["configuration"].update(journal_mode="memory"),
        "unknown configuration memory",
    ),
    (lambda content: content["scenario"]["configuration"].update(synchronous="full; DROP"), "unknown configuration"),
    (lambda content: content["scenario"]["steps"].insert(0, {"type": "import", "module": "os"}), "steps"),
    (
        lambda content: content["scenario"]["steps"].append({"type": "arm", "plan": "write:wal@1=KILL"}),
        "would kill this",
    ),
    (lambda content: content["scenario"]["steps"].append({"type": "arm", "plan": "sync@1=FULL"}), "can't happen"),
    (lambda content: content["scenario"]["steps"].append({"type": "arm", "plan": "sync@x=FULL"}), "column 6"),
    (lambda content: content["scenario"]["steps"].append({"type": "arm", "plan": ""}), "column 1"),
    (lambda content: content["scenario"]["steps"].extend([{"type": "clear"}] * 10_001), "steps; at most"),
    (
        lambda content: content["scenario"]["steps"].append({"type": "arm", "plan": ";".join(["write=FULL"] * 101)}),
        "faults at once",
    ),
]


def call(name: str) -> dict[str, Any]:
    return {"type": "call", "action": {"name": name, "args": {}}}


@pytest.mark.parametrize(("edit", "message"), BAD)
def test_what_a_file_may_not_say_is_refused(path: Path, edit: Edit, message: str) -> None:
    refused(edited(path, edit), message)


class OfItems(tiny_stores.Tiny):
    """Its calls have names of their own kind: of a mapping, and of a program."""

    def workload(self) -> tuple[Action, ...]:
        return Action("__setitem__", {"key": "a", "value": 1}), Action("add-item")


@pytest.mark.parametrize(
    "name", ["__init__", "_sql_retry", "tasks.__class__", "tasks._store", "", "a b", "..", "os.system()", "add-item"]
)
def test_a_call_that_is_no_action_of_the_target_is_refused(path: Path, name: str) -> None:
    read = reproducer.read(edited(path, lambda content: content["scenario"]["steps"].append(call(name))))
    with pytest.raises(ReplayFileError, match=re.escape(f"{name!r} is not the name of an action of tiny")):
        reproducer.replay(read, tiny_stores.Tiny(), path.parent)


def test_a_call_is_an_action_if_the_target_makes_it(path: Path) -> None:
    scenario = msgspec.structs.replace(SCENARIO, steps=tuple(map(Call, OfItems().workload())))
    reproducer.require_calls_of(OfItems(), scenario)


def test_nesting_without_end_is_refused_and_crashes_nothing(path: Path) -> None:
    text = path.read_text().replace('"value": 1', f'"value": {"[" * 200_000}{"]" * 200_000}')
    assert len(text) > 400_000
    path.write_text(text)
    refused(path, "not a replay file")


def test_a_finding_with_large_sides_is_written_so_that_it_can_be_read(tmp_path: Path) -> None:
    large = Finding(FINDING.code, "", SCENARIO, {"memory": {"a": "x" * 900_000}, "disk": {}}, "sweep")
    read = reproducer.read(reproducer.write(large, tmp_path, seed=0))
    assert read.scenario == SCENARIO
    assert read.sides == {}


def test_a_finding_whose_file_can_not_be_written_is_told_all_the_same(tmp_path: Path) -> None:
    from tornpage.scenarios.model.plan import Plan, Profile
    from tornpage.scenarios.run.campaign import run

    (tmp_path / "file").touch()
    plan = Plan(("sweep",), Profile("test", 1, 40, 0, 0), report=tmp_path / "file" / "below", most_findings=1)
    recorder = run(tiny_stores.RemembersFirst(), plan)
    assert [found.finding.code for found in recorder.findings] == ["memory-equals-disk"]
    assert recorder.findings[0].replay.startswith("(no replay file: ")


# -- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (tiny_stores.RemembersFirst, Verdict.FAILED),
        (tiny_stores.Tiny, Verdict.FIXED),
        (tiny_stores.Alternates, Verdict.FLAKY),
    ],
)
def test_three_runs_make_a_verdict(
    path: Path, target: type[tiny_stores.Tiny], expected: Verdict, shim: faults.Shim, tmp_path: Path
) -> None:
    found, lines = reproducer.replay(reproducer.read(path), target(), tmp_path)
    assert found is expected
    assert len(lines) == 3
    assert all("1 of 1 faults fired" in line or "memory-equals-disk" in line for line in lines)


def test_a_scenario_that_makes_no_sense_on_a_target_is_no_verdict(
    path: Path, shim: faults.Shim, tmp_path: Path
) -> None:
    edited(path, lambda content: content["scenario"]["steps"].insert(0, call("fly")))
    with pytest.raises(TargetError, match="fly"):
        reproducer.replay(reproducer.read(path), tiny_stores.Tiny(), tmp_path)


# -- hostile files, by the command -------------------------------------------------------------------------


def test_a_target_that_would_have_to_be_imported_is_refused_and_nothing_is_imported(
    path: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    (tmp_path / "hostile_module.py").write_text("raise SystemExit('it was imported')")
    edited(path, lambda content: content["scenario"].update(target="hostile_module:Target"))
    ran = command("replay", path)
    assert ran.code == 2
    assert ran.out.startswith("ERROR: the file names the target 'hostile_module:Target'; a file imports nothing")
    assert "add --target hostile_module:Target" in ran.out
    assert "hostile_module" not in sys.modules


@pytest.mark.parametrize("name", ["nobody", "bug:nobody", "bug:../../canary", "", "os"])
def test_a_target_that_nobody_knows_is_refused_and_the_known_ones_are_named(
    path: Path, name: str, command: Callable[..., Any]
) -> None:
    edited(path, lambda content: content["scenario"].update(target=name))
    ran = command("replay", path)
    assert ran.code == 2
    assert ran.out.startswith("ERROR: unknown")
    assert "known: " in ran.out


@pytest.mark.parametrize("name", ["../outside.json", "/tmp/../tmp/outside.json", "a/b.json"])  # noqa: S108 - refused
def test_an_action_writes_no_file_outside_its_own_directory(path: Path, name: str, command: Callable[..., Any]) -> None:
    step = {"type": "call", "action": {"name": "legacy_file", "args": {"name": name, "content": {}}}}
    edited(path, lambda content: content["scenario"].update(target="reference", steps=[step]))
    ran = command("replay", path)
    assert ran.code == 2
    assert "a legacy file's name is no path" in ran.out


@pytest.mark.parametrize("name", ["reset", "check", "clear", "memoize", "transact"])
def test_an_action_reaches_only_the_calls_that_a_target_offers(
    path: Path, name: str, command: Callable[..., Any]
) -> None:
    pytest.importorskip("diskcache")
    edited(path, lambda content: content["scenario"].update(target="diskcache", steps=[call(name)]))
    ran = command("replay", path)
    assert ran.code == 2
    assert f"unknown action '{name}'" in ran.out


def test_a_recorder_without_a_place_for_files_keeps_the_scenario_as_text() -> None:
    recorder = Recorder()
    recorder.found(FINDING, tiny_stores.Tiny())
    assert recorder.findings[0].replay == str(SCENARIO)


def test_what_never_showed_the_finding_is_not_reproduced_and_not_fixed(
    tmp_path: Path, home: Path, shim: faults.Shim
) -> None:
    for shows_again, verdict in ((True, Verdict.FIXED), (False, Verdict.NOT_REPRODUCED)):
        finding = msgspec.structs.replace(FINDING, shows_again=shows_again)
        read = reproducer.read(reproducer.write(finding, tmp_path, seed=0))
        assert reproducer.replay(read, tiny_stores.Tiny(), home)[0] is verdict
