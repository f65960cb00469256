"""``run.json`` says what happened at each point, reads back as it was written, and refuses what it is not."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crashing_stores
import msgspec
import pytest

from tornpage.scenarios.model.events import Place, PointTried, Series
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.record import OUTCOMES, RunFileError

Command = Callable[..., Any]
PLACE = Place(Configuration(), 1, "put()", "write@1=FULL")


class OneCall(crashing_stores.SaysFull):
    """Few findings."""

    calls = crashing_stores.SaysFull.calls[:1]


@pytest.mark.usefixtures("quick_is_small")
def test_a_run_leaves_a_record_with_every_point_and_says_the_same_as_its_json(command: Command, tmp_path: Path) -> None:
    ran = command("sweep", "--target", "tiny_stores:RemembersFirst", "--configuration", "wal/FULL", "--json")
    assert ran.code == 1
    record = run_record.read(tmp_path / ".tornpage/run.json")
    assert json.loads(msgspec.json.encode(run_record.without_points(record))) == json.loads(ran.out)
    (swept,) = record.searches
    assert len(record.points) == swept.counts["tried"] > 50
    outcomes = Counter(OUTCOMES[point.outcome] for point in record.points)
    assert outcomes["finding"] == swept.counts["findings"] == sum(found.seen for found in record.findings)
    assert {record.texts[point.configuration] for point in record.points} == {"wal/FULL"}
    assert any(record.texts[point.condition].startswith("write:wal@1") for point in record.points)
    assert {found.check for found in record.findings} == {"memory-equals-disk"}
    assert all(found.sides for found in record.findings)


def test_the_states_of_a_crash_are_mapped_to_the_operations_before_them(command: Command, tmp_path: Path) -> None:
    ran = command("crash", "--target", "test_run_record:OneCall", "--configuration", "wal/FULL", "--states", 5)
    assert ran.code == 1
    (crashes,) = run_record.read(tmp_path / ".tornpage/run.json").crash_states
    by_position = crashes.by_position
    assert by_position[0].operation == "before the first operation"
    assert any(point.operation.startswith("write ") and "-wal" in point.operation for point in by_position.values())
    assert 0 < sum(point.states for point in by_position.values()) <= crashes.states
    assert sum(point.findings for point in by_position.values()) > 0


@pytest.mark.parametrize(
    ("effect", "fired", "surfaced", "is_finding", "outcome"),
    [
        ("FULL", True, True, False, "surfaced"),
        ("FULL", True, False, False, "absorbed"),
        ("BUSY", True, False, False, "retried"),
        ("held 50 ms", True, False, False, "retried"),
        ("FULL", False, False, False, "not-fired"),
        ("FULL", True, True, True, "finding"),
    ],
)
def test_what_came_of_a_point_has_one_name(
    effect: str, fired: bool, surfaced: bool, is_finding: bool, outcome: str
) -> None:
    event = PointTried(Series("write", "db", "before", effect), fired, surfaced, PLACE, is_finding)
    assert run_record.outcome_of(event) == outcome


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a tornpage run record"),
        ("[]", "is not a tornpage run record"),
        ("{}", "an unknown format, version 0"),
        ('{"format": "tornpage-run", "version": 99}', "tornpage-run, version 99; this tornpage reads"),
        ('{"format": "tornpage-run", "version": 1}', "missing required field"),
    ],
)
def test_another_file_is_refused_with_what_it_is(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(RunFileError, match=message):
        run_record.read(path)
    with pytest.raises(RunFileError, match="can't be read"):
        run_record.read(tmp_path / "nothing.json")


def test_a_directory_that_takes_no_record_leaves_the_verdict_and_makes_exit_code_2(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "report/run.json").mkdir(parents=True)
    ran = command(
        "sweep", "--target", "tiny_stores:Tiny", "--plan", "write:wal@1=FULL", "--configuration", "wal/FULL",
        "--report", tmp_path / "report",
    )  # fmt: skip
    assert ran.code == 2
    assert "HOLDS" in ran.out
    assert "no record of this run" in ran.err
