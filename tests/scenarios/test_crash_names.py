"""When is a new name durable? Stores that move, link, rotate and mark files, right and wrong."""

from typing import Any

import pytest
import renamed_stores
from seeds import first_of

from tornpage.faults.files.in_place import is_supported
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.recorder import Recorder

pytestmark = pytest.mark.skipif(not is_supported(), reason="built-in functions of this interpreter are out of reach")


def searched(target: Any, seed: int) -> Recorder:
    profile = Profile("test", 1, None, 0, 0, crash_states=15, shorter=50)
    return run(target, Plan(("crash",), profile, seed=seed, report=None, most_findings=1))


@pytest.mark.parametrize(
    "name",
    [
        "Moved", "MovedOnce", "Linked", "Rotated", "Archived", "Published", "ClosedMarker", "Switched",
        "SwitchedByPath",
    ],
)  # fmt: skip
@pytest.mark.parametrize("seed", first_of([0, 1]))
def test_a_store_that_syncs_the_directory_of_each_new_name_once_is_silent(name: str, seed: int) -> None:
    recorder = searched(getattr(renamed_stores, name)(), seed)
    assert not recorder.findings
    assert not recorder.vacuous


@pytest.mark.parametrize(
    "name",
    [
        "LinkedOnce", "MovedSyncsTheOther", "LinkedSyncsTheOther", "RotatedUnsynced", "ArchivedSyncsTheOther",
        "PublishedUnsynced", "ClosedMarkerStays", "SwitchedEarly",
    ],
)  # fmt: skip
@pytest.mark.parametrize("seed", first_of([0, 1]))
def test_a_store_that_syncs_another_directory_or_none_is_found(name: str, seed: int) -> None:
    assert searched(getattr(renamed_stores, name)(), seed).findings


def test_a_link_by_its_full_path_leads_to_the_copy_s_own_files_wherever_that_is() -> None:
    profile = Profile("test", None, 20, 2, 20)
    plan = Plan(("sweep", "fuzz"), profile, report=None, most_findings=1)
    recorder = run(renamed_stores.SwitchedByPath(), plan)
    assert not recorder.findings
    assert not recorder.vacuous
