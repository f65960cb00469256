"""Two threads on one store: what a store keeps beside its rows is found where it is racy, and not where it is sound."""

from pathlib import Path
from typing import Any

import one_store
import pytest
from meeting_stores import Jobs, JobsTarget

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, Interleave, Scenario
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.campaign import Exit, verdict
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find


def interleave(target: Target, schedules: int = 60, most_findings: int = 25) -> Recorder:
    profile = Profile("test", 1, None, 0, 0, schedules=schedules)
    return campaign.run(target, Plan(("interleave",), profile, report=None, most_findings=most_findings))


@pytest.mark.parametrize(("target", "racy"), one_store.PAIRS, ids=[pair[0].__name__ for pair in one_store.PAIRS])
def test_the_racy_store_is_found_and_its_sound_twin_is_silent(target: type[JobsTarget], racy: type[Jobs]) -> None:
    silent = interleave(target())
    assert [found.finding.message for found in silent.findings] == []
    assert verdict(silent) is Exit.HOLDS
    caught = interleave(target(racy), most_findings=1)
    assert caught.findings


@pytest.mark.parametrize(
    ("racy", "code"),
    [(one_store.BoxesWithoutALock, "acknowledged-is-durable"), (one_store.BegunWithoutALock, "all-or-nothing")],
)
def test_what_a_transaction_of_both_has_lost_is_named(home: Path, shim: object, racy: type[Jobs], code: str) -> None:
    target = one_store.BoxesTarget(racy)
    put, other = target.workload()[:2]
    violations = [
        play(Scenario(target.name, target.configurations[0], (Interleave(put, other, at, callers="shared"),)),
             target, home)[0]
        for at in (1, 2)
    ]  # fmt: skip
    assert violations[0] is None
    assert violations[1] is not None
    assert violations[1].code == code
    assert "B: put(names=['c', 'd']) got acknowledged while the other call was not at its end" in violations[1].message


@pytest.mark.parametrize("at", [1, 9])
def test_the_times_of_two_calls_of_one_reference_session_are_their_own(home: Path, shim: object, at: int) -> None:
    target = find("reference")
    workload = target.workload()
    number = next(step for step, action in enumerate(workload) if action.name == "batch")
    late = next(action for action in workload if action.name == "maintenance")
    steps: Any = (*map(Call, workload[:number]), Interleave(workload[number], late, at, callers="shared"))
    violation, counts = play(Scenario(target.name, target.configurations[0], steps), target, home)
    assert (violation, counts["schedules"]) == (None, 1)
