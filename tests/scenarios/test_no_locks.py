"""A store without locks: no rival can block it, so that is reported once, and it is a store for one caller."""

from pathlib import Path
from typing import Any

import pytest
import unlocked_stores

from tornpage import faults
from tornpage.scenarios.execution.preflight.no_locks import takes_no_locks
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.targets.registry import find_or_import

WITHOUT = pytest.mark.parametrize("name", ["NoLockTarget", "VfsWithoutLocksTarget"])
pytestmark = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the VFS unix-none is the system's")


@WITHOUT
def test_what_is_impossible_for_it_is_told_and_not_vacuous(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # So few steps would not be enough to miss anything.
    monkeypatch.setattr("tornpage.scenarios.search.fuzz.search.ENOUGH_STEPS", 30)
    target = find_or_import(f"unlocked_stores:{name}")
    profile = Profile("test", 1, 1, scenarios=6, steps=10, rival_points=2, schedules=4, shrinks=False)
    recorder = run(target, Plan(("contend", "interleave", "fuzz"), profile, report=None))
    assert not recorder.findings
    assert not [one for one in recorder.vacuous if one.search != "fuzz" or "contentions" in one.reason]
    assert recorder.count("steps") > 30
    notes = {ended.search: "\n".join(ended.notes) for ended in recorder.ended}
    assert "no rival can block it: the store takes no locks" in notes["contend"]
    assert "not tried: the store takes no locks" in notes["interleave"]
    assert "not made by two callers" not in notes["interleave"]


def test_two_callers_that_it_declares_are_tried() -> None:
    profile = Profile("test", 1, 1, 0, 0, schedules=20)
    recorder = run(find_or_import("unlocked_stores:DeclaredTarget"), Plan(("interleave",), profile, report=None))
    assert recorder.count("schedules") or recorder.count("findings")


def test_a_store_with_locks_is_blocked(tmp_path: Path) -> None:
    target = unlocked_stores.SettingsTarget()
    with faults.install():
        assert not takes_no_locks(target, target.configurations[0], tmp_path / "probe")
    recorder = run(target, Plan(("contend",), Profile("test", 1, 1, 0, 0, rival_points=4), report=None))
    assert not recorder.vacuous
    assert recorder.count("contentions")


def test_a_first_target_of_a_store_that_locks_for_good_names_the_reason_and_the_cure(command: Any) -> None:
    ran = command("new", "target", "--from", "unlocked_stores:LocksForGood", "--out", "first.py")
    assert ran.code == 2
    assert "locking_mode = EXCLUSIVE a connection never lets go of its lock; let `make` return" in ran.err
    assert "no way to make it" not in ran.err
    ran = command("new", "target", "--from", "unlocked_stores:without_its_lock", "--out", "first.py")
    assert ran.code == 0, ran
