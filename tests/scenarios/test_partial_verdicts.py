"""A time that is up ends every search with what it has: PARTIAL, and success only if something was tested."""

from pathlib import Path

import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.model.events import Event, PointTried, StatesTried, StepsDone
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.report.words import headline
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.campaign import SEARCHES, Exit, verdict
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import

PROFILE = Profile(
    "test",
    None,
    100,
    scenarios=200,
    steps=10,
    crash_states=200,
    kills=30,
    rival_points=40,
    limit_points=40,
    scenarios_a_batch=3,
)
IN_PROCESS = [name for name in SEARCHES if name != "syscalls"]  # That one is for programs of their own.

BY_CALL = ["sweep", "contend", "limits"]


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_search_that_is_cut_short_says_so_and_holds_for_what_it_has_tested(
    name: str, shim: faults.Shim, home: Path
) -> None:
    target = find_or_import("tiny_stores:Declared")
    calls = {str(action) for action in target.workload()}
    seen, reached = 0, set()

    def late(event: Event) -> None:
        nonlocal seen
        if isinstance(event, PointTried):
            reached.add(event.place.call)
        fired = isinstance(event, PointTried) and event.fired
        seen += fired or isinstance(event, StatesTried | StepsDone)
        if seen >= 3 and (name not in BY_CALL or reached >= calls):
            recorder.deadline = 0.0

    recorder = Recorder([late])
    plan = Plan((name,), PROFILE, report=None, max_time_s=1_000)
    SEARCHES[name](target, recorder, home, plan).run()
    (ended,) = recorder.ended
    assert not ended.complete
    assert not recorder.complete
    assert (recorder.vacuous, recorder.findings) == ([], [])
    assert verdict(recorder) is Exit.HOLDS
    record = run_record.record_of(recorder, target, plan, run_record.Points())
    assert "PARTIAL: the time was up before everything was tried" in headline(record)


@pytest.mark.parametrize("name", BY_CALL)
def test_a_call_that_was_never_reached_makes_it_inconclusive_by_name(name: str, shim: faults.Shim, home: Path) -> None:
    def late(event: Event) -> None:
        if isinstance(event, PointTried) and event.place.call.startswith("put"):
            recorder.deadline = 0.0

    target = find_or_import("tiny_stores:Declared")
    recorder = Recorder([late])
    SEARCHES[name](target, recorder, home, Plan((name,), PROFILE, report=None)).run()
    assert verdict(recorder) is Exit.NOT_TESTED
    (vacuous,) = recorder.vacuous
    assert vacuous.reason.startswith("the time was up before any point of ")
    assert str(target.workload()[-1]) in vacuous.reason or "more" in vacuous.reason


@pytest.mark.parametrize("name", IN_PROCESS)
def test_a_search_that_had_no_time_has_tested_nothing(name: str, shim: faults.Shim, home: Path) -> None:
    recorder, target, plan = Recorder(deadline=0.0), tiny_stores.Tiny(), Plan((name,), PROFILE, report=None)
    SEARCHES[name](target, recorder, home, plan).run()
    assert verdict(recorder) is Exit.NOT_TESTED
    assert not recorder.complete
    # Its own line says why: another reason may be that a process has died.
    record = run_record.record_of(recorder, target, plan, run_record.Points())
    assert "PARTIAL: not everything was tried" in headline(record)
