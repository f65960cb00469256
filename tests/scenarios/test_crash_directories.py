"""Directories that were made and never synced into their parents: whose they are decides what a crash may take."""

from typing import Any

import crash_places
import pytest
from seeds import first_of

from tornpage.scenarios.model.events import SearchEnded
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.recorder import Recorder


def searched(target: Any, seed: int = 0) -> tuple[Recorder, tuple[str, ...]]:
    """What the crash search records of a target, and what it notes."""
    ended: list[SearchEnded] = []
    plan = Plan(("crash",), Profile("test", 1, 30, 0, 0, crash_states=15), seed=seed, report=None)
    recorder = run(target, plan, (lambda event: ended.append(event) if isinstance(event, SearchEnded) else None,))
    return recorder, ended[0].notes


def test_a_directory_that_is_made_several_times_is_noted_once() -> None:
    recorder, [note] = searched(crash_places.InDirectoryBehindALock())
    assert not recorder.findings
    assert "never synced into the directory above: data/, data/of/, data/lock/; crashes" in note


@pytest.mark.parametrize("kind", [crash_places.InDirectory, crash_places.InDirectoryOfTheFirstCall])
def test_the_directory_that_a_store_is_set_up_in_is_the_deployments_and_is_noted(
    kind: type[crash_places.Base],
) -> None:
    recorder, notes = searched(kind())
    assert not recorder.findings
    assert not recorder.vacuous
    [note] = notes
    assert "never synced into the directory above: data/, data/of/; crashes are assumed to keep it" in note


def test_a_directory_that_is_made_later_has_to_be_synced_into_its_parent_and_the_finding_says_how() -> None:
    recorder, _ = searched(crash_places.DirectoryOfEachKeyUnsynced())
    [found] = [one.finding for one in recorder.findings if one.finding.code == "acknowledged-is-durable"]
    assert "The loss of b/ alone causes it: after os.mkdir nothing has synced the store's directory" in found.message
    assert "remedy: open the store's directory and os.fsync it after os.mkdir" in found.message


@pytest.mark.parametrize("seed", first_of(range(3)))
def test_a_store_that_syncs_the_parent_of_each_new_directory_is_silent(seed: int) -> None:
    recorder, notes = searched(crash_places.DirectoryOfEachKey(), seed)
    assert not recorder.findings
    assert not recorder.vacuous
    assert not notes


@pytest.mark.parametrize("kind", [crash_places.SideFileUnsynced, crash_places.AbsolutePathsUnsynced])
def test_what_is_lost_without_a_directory_is_not_put_down_to_one(kind: type[crash_places.Base]) -> None:
    recorder, _ = searched(kind())
    assert recorder.findings
    assert not any("os.mkdir" in one.finding.message for one in recorder.findings)
