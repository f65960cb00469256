"""Events and observations are lines that other tools read, and cost no verdict when they can't be written."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.record import OUTCOMES

Command = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("quick_is_small")
SWEEP = ("sweep", "--target", "tiny_stores:RemembersFirst", "--configuration", "wal/FULL", "--quiet")
FUZZ = (
    "fuzz",
    "--target",
    "tiny_stores:Tiny",
    "--configuration",
    "wal/FULL",
    "--scenarios",
    "5",
    "--steps",
    "8",
    "--quiet",
)

# What has to be there, and as what: https://hypothesis.readthedocs.io/en/latest/reference/integrations.html#observability
TEST_CASE = {
    "type": str,
    "run_start": float,
    "property": str,
    "status": str,
    "status_reason": str,
    "representation": str,
    "arguments": dict,
    "how_generated": (str, type(None)),
    "features": dict,
    "coverage": (dict, type(None)),
    "timing": dict,
    "metadata": dict,
}
MESSAGE = {"type": str, "run_start": float, "property": str, "title": str, "content": (str, dict)}


def lines_of(directory: Path, kind: str) -> list[dict[str, Any]]:
    (path,) = directory.glob(f"*_{kind}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def require_fields(line: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, kind in fields.items():
        assert isinstance(line[name], kind), (name, line)
    assert line.keys() == fields.keys()


def test_each_point_is_a_test_case_in_the_form_that_hypothesis_has(command: Command, tmp_path: Path) -> None:
    assert command(*SWEEP, "--observe", "observed").code == 1
    cases = lines_of(tmp_path / "observed", "testcases")
    for case in cases:
        require_fields(case, TEST_CASE)
        assert case["type"] == "test_case"
        assert case["property"] == "sweep tiny_stores:RemembersFirst"
        assert all(isinstance(seconds, float) for seconds in case["timing"].values())
    record = run_record.read(tmp_path / ".tornpage/run.json")
    outcomes = Counter(OUTCOMES[point.outcome] for point in record.points)
    assert Counter(case["status"] for case in cases) == {
        "failed": outcomes["finding"],
        "passed": outcomes["surfaced"] + outcomes["absorbed"] + outcomes["retried"],
    }
    messages = lines_of(tmp_path / "observed", "info")
    for message in messages:
        require_fields(message, MESSAGE)
    assert Counter(message["type"] for message in messages) == {"error": len(record.findings), "info": 1}


def test_the_scenarios_of_fuzz_are_hypothesis_own_test_cases(command: Command, tmp_path: Path) -> None:
    assert command(*FUZZ, "--observe", "observed").code == 0
    cases = lines_of(tmp_path / "observed", "testcases")
    assert len(cases) >= 5
    for case in cases:
        require_fields(case, TEST_CASE)
        assert case["status"] in {"passed", "gave_up"}
    assert {case["property"] for case in cases} == {"fuzz tiny_stores:Tiny"}
    assert any("call" in case["representation"] for case in cases)


def test_who_is_observed_tells_the_same_scenarios(command: Command, tmp_path: Path) -> None:
    def notes() -> Any:
        return run_record.read(tmp_path / ".tornpage/run.json").searches[0].notes

    assert command(*FUZZ).code == 0
    alone = notes()
    assert command(*FUZZ, "--observe", "observed", "--events", "events.jsonl").code == 0
    assert notes() == alone
    assert alone[0].startswith("trace sha256")


def test_events_are_a_line_each_with_every_point(command: Command, tmp_path: Path) -> None:
    assert command(*SWEEP, "--events", "deep/events.jsonl").code == 1
    events = [json.loads(line) for line in (tmp_path / "deep/events.jsonl").read_text().splitlines()]
    record = run_record.read(tmp_path / ".tornpage/run.json")
    counted = Counter(event["event"] for event in events)
    assert counted == {
        "SearchStarted": 1,
        "PointTried": len(record.points),
        "Found": len(record.findings),
        "SearchEnded": 1,
    }
    assert (events[0]["event"], events[-1]["event"]) == ("SearchStarted", "SearchEnded")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_disk_that_is_full_costs_the_events_and_not_the_verdict(command: Command) -> None:
    ran = command(*SWEEP, "--events", "/dev/full")
    assert ran.code == 1
    assert ran.err.count("no more events from here on") == 1
    assert "FAILED with 3 findings" in ran.out


def test_where_nothing_can_be_written_nothing_is_run(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for option, said in (
        ("--events", "--events file/below: file is not a directory"),
        ("--observe", "cannot write file/below"),
    ):
        ran = command(*SWEEP, option, "file/below")
        assert ran.code == 2
        assert said in ran.err
