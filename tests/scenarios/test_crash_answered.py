"""Where a call has returned: the disks that have kept its changes in order, up to each one of them."""

import random
from pathlib import Path

import msgspec
import pytest
from seeds import first_of

from tornpage import faults
from tornpage.faults import Crash, CrashStates, Operation
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.search.crash.sample import Sample
from tornpage.scenarios.search.crash.search import CrashSearch
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.known_bugs.fence_not_synced import BUG, FENCED_CALLS
from tornpage.scenarios.targets.reference.target import Reference

WRITES = [Operation("write", "log", at, b"x") for at in range(6)]


def tried(first: int, *, answered: bool, whole: bool = True) -> set[Crash]:
    """The crashes that are tried of a call whose operations begin with `first`, if no disk of it is new."""
    generator = random.Random(1)  # noqa: S311 - reproducible is the point
    sample = Sample(CrashStates({"log": b""}, WRITES), frozenset({6}), generator, lambda _: True)
    states = list(sample.some(range(first + 1, 7), 0, whole=whole, answered=answered))
    return {state.crash for state in states if state.crash.power and state.crash.position == 6}


@pytest.mark.parametrize("whole", [True, False])
def test_where_a_call_returns_its_changes_are_kept_up_to_each(whole: bool) -> None:
    more = tried(2, answered=True, whole=whole) - tried(2, answered=False, whole=whole)
    assert more == {Crash(6, tuple(range(lost, 6))) for lost in range(2, 6)}


def test_of_a_call_after_a_fault_the_newest_changes_are_lost_one_after_the_other() -> None:
    many = CrashStates({"log": b""}, [Operation("write", "log", at, b"x") for at in range(20)])
    assert [len(crash.lost) for crash in many.prefixes(20, 0, 8)] == list(range(8, 0, -1))
    assert [len(crash.lost) for crash in many.prefixes(20, 0)] == list(range(19, 0, -1))


def found_after_faults(target: Reference, seed: int, home: Path) -> set[str]:
    """The checks that fail when the second call fails, another change is made, and the power is cut."""
    recorder = Recorder((), keep=lambda _: "", deadline=None, most_findings=1, shorter=1)
    with faults.install():
        search = CrashSearch(target, recorder, home, most_states_per_call=60, seed=seed)
        of_faults = next(part for part in search.parts() if part.kind == "after faults")
        search.search(msgspec.structs.replace(of_faults, first=2, end=3))
    return {found.finding.code for found in recorder.findings}


@pytest.mark.parametrize("seed", first_of([0, 1, 18]))
def test_a_change_that_comes_back_where_only_the_fence_is_lost_is_found(seed: int, home: Path) -> None:
    target = BUG.target()
    target.calls = FENCED_CALLS[:2]
    assert found_after_faults(target, seed, home) == {"failed-write-changed-nothing"}


def test_a_fence_that_is_synced_is_silent(home: Path) -> None:
    target = Reference(calls=FENCED_CALLS[:2])
    target.configurations = (Configuration("wal", "NORMAL"),)
    assert found_after_faults(target, 18, home) == set()
