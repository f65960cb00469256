"""A trace tells of every step what memory, disk and a reopened copy show, and does not disturb the scenario."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny_stores import RemembersFirst, Tiny

from tornpage import faults
from tornpage.scenarios.execution.finding.trace import Trace, trace_of
from tornpage.scenarios.execution.finding.views import VIEWS
from tornpage.scenarios.model.scenario import Arm, Call, Clear, ClockJump, CrashAt, Restart, Scenario, Step
from tornpage.scenarios.model.target import Action, Configuration, Environment
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.traces import with_traces

Command = Callable[..., Any]
PUT = Call(Action("put", {"key": "a", "value": 1}))
FAIL = Arm("commit@1=FULL", "statement")


class OneCall(RemembersFirst):
    """One finding."""

    calls = Tiny.calls[:1]


def played(target: Tiny, home: Path, *steps: Step) -> Trace:
    return trace_of(Scenario(target.name, Configuration("wal", "FULL"), steps), target, home)


def states(timeline: Trace, moment: int) -> dict[str, int | None]:
    return {name: timeline.moments[moment].lanes[name].state for name in VIEWS}


def test_memory_that_runs_ahead_is_seen_at_its_step_and_not_before(shim: faults.Shim, home: Path) -> None:
    again = Call(Action("put", {"key": "a", "value": 2}))
    timeline = played(RemembersFirst(), home, PUT, FAIL, again)
    assert (timeline.check, timeline.first_difference) == ("memory-equals-disk", 3)
    assert states(timeline, 0) == {"memory": 0, "disk": 0, "reopened": 0}
    assert states(timeline, 1) == states(timeline, 0)
    assert states(timeline, 2) == {"memory": 1, "disk": 0, "reopened": 0}
    assert timeline.moments[2].lanes["memory"].changes == ("a: 1 → 2",)
    assert timeline.moments[2].lanes["disk"].changes == ()
    assert [row.sides for row in timeline.rows] == [{"memory": 2, "disk": 1, "reopened": 1}]
    assert [row.sides for row in timeline.shortened().rows] == [{"memory": "2", "disk": "1", "reopened": "1"}]


def test_a_fault_is_a_band_from_where_it_is_armed_to_where_it_is_cleared(shim: faults.Shim, home: Path) -> None:
    timeline = played(Tiny(), home, PUT, FAIL, PUT, Clear(), PUT)
    armed = [bool(moment.armed) for moment in timeline.moments]
    assert armed == [False, True, True, False, False, False]
    assert timeline.moments[1].armed == ("commit@1=FULL at the statement depth",)
    assert "1 fired" in timeline.moments[2].outcome
    assert (timeline.check, timeline.first_difference) == ("", None)
    assert timeline.moments[-1].step == "with nothing armed, one more small change"


def test_looking_leaves_a_session_that_has_just_started_cold(shim: faults.Shim, home: Path) -> None:
    """In a session that has been looked into, the first read of the file would not happen any more."""
    scenario = (PUT, Restart(crash=True), Arm("read:wal@1=IOERR_READ"), Call(Action("put", {"key": "b", "value": 1})))
    timeline = played(Tiny(), home, *scenario)
    assert "1 fired" in timeline.moments[3].outcome
    assert timeline.moments[1].lanes["memory"].state is None
    assert "stays cold" in timeline.moments[1].lanes["memory"].reason
    assert timeline.moments[1].lanes["disk"].state == 0


def test_what_is_armed_does_not_fire_at_a_look(shim: faults.Shim, home: Path) -> None:
    """No lock of shared memory can be had from the first on: nor could one by which the session looks."""
    with_looks = played(Tiny(), home, PUT, Arm("shmlock@1..=IOERR_SHMLOCK"), PUT, Clear())
    assert with_looks.check == ""
    assert all(state is not None for state in states(with_looks, 2).values())


def test_steps_of_every_kind_are_told(shim: faults.Shim, home: Path) -> None:
    timeline = played(Tiny(), home, PUT, ClockJump(1000), PUT, CrashAt(0), PUT)
    assert timeline.reason == ""
    assert len(timeline.moments) == 6
    assert timeline.moments[3].lanes["disk"].state is not None


def test_a_crash_that_loses_what_was_acknowledged_shows_what_it_left_and_not_what_was_before_it(
    command: Command, tmp_path: Path
) -> None:
    command("crash", "--target", "crashing_stores:NameNotSynced", "--states", 10)
    record = run_record.read(tmp_path / ".tornpage/run.json")
    lost = [
        found
        for found in record.findings
        if found.check == "acknowledged-is-durable" and isinstance(found.scenario.steps[-1], CrashAt) and found.sides
    ]
    assert lost
    for found in lost:
        assert found.timeline is not None
        before, after = found.timeline.moments[-2:]
        assert found.timeline.first_difference == len(found.timeline.moments)
        assert after.lanes["reopened"].state != before.lanes["reopened"].state
        assert after.lanes["memory"].reason == "lost in the crash"
        assert found.timeline.rows


def test_a_scenario_that_kills_is_not_played_in_this_process(shim: faults.Shim, home: Path) -> None:
    timeline = played(Tiny(), home, Arm("write@1=KILL"), PUT, Restart())
    assert timeline.moments == ()
    assert "killed" in timeline.reason


def test_a_scenario_that_is_too_long_is_not_kept_with_its_finding(command: Command, tmp_path: Path) -> None:
    command("sweep", "--target", "test_traces:OneCall", "--configuration", "wal/FULL", "--plan", "commit@1=FULL")
    record = run_record.read(tmp_path / ".tornpage/run.json")
    found = record.findings[0]
    long = msgspec.structs.replace(found, scenario=msgspec.structs.replace(found.scenario, steps=(PUT,) * 61))
    (kept,) = with_traces(msgspec.structs.replace(record, findings=(long,)), RemembersFirst()).findings
    assert kept.timeline is not None
    assert "61 steps" in kept.timeline.reason


def test_a_target_that_can_not_be_played_has_a_reason_and_no_picture(shim: faults.Shim, home: Path) -> None:
    class Broken(Tiny):
        def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Any:
            raise RuntimeError("no more")

    timeline = played(Broken(), home, PUT)
    assert timeline.moments == ()
    assert "no more" in timeline.reason


@pytest.mark.slow
def test_each_finding_of_a_run_has_its_timeline_and_it_shows_the_same_check(command: Command, tmp_path: Path) -> None:
    command("sweep", "--target", "tiny_stores:RemembersFirst", "--configuration", "wal/FULL")
    record = run_record.read(tmp_path / ".tornpage/run.json")
    assert record.findings
    for found in record.findings:
        assert found.timeline is not None
        assert found.timeline.check == found.check
        assert found.timeline.first_difference == len(found.timeline.moments)


def test_without_time_left_a_finding_says_that_it_was_not_drawn(
    command: Command, tmp_path: Path, shim: faults.Shim
) -> None:
    command("sweep", "--target", "test_traces:OneCall", "--configuration", "wal/FULL", "--plan", "commit@1=FULL")
    record = run_record.read(tmp_path / ".tornpage/run.json")
    for seconds in (0.0, -1.0):
        late = with_traces(record, RemembersFirst(), most_seconds=seconds)
        assert {found.timeline.reason for found in late.findings} == {"there was no time left to replay it"}
