"""Where programs of their own keep their databases, and in how many steps they make them."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import ProcessTarget

STORES = Path(__file__).with_name("placed_stores.py")
UNAVAILABLE = why_unavailable()
pytestmark = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

Command = Callable[..., Any]
Search = Callable[..., Recorder]


def named(mode: str) -> str:
    return f"command:{shlex.join([sys.executable, str(STORES), mode])}"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["subfolder", "chosen", "several", "steps"])
def test_a_sound_store_holds_wherever_it_is(mode: str, search: Search) -> None:
    with ProcessTarget((sys.executable, str(STORES), mode), mode) as target:
        recorder = search(target, "syscalls", "crash", points=4, crash_states=6)
    assert [one.finding.message for one in recorder.findings] == []
    assert not recorder.vacuous
    assert recorder.complete
    assert recorder.count("fired") > 10
    assert recorder.count("states") > 100


@pytest.mark.slow
def test_a_folder_that_is_made_while_the_store_opens_and_not_synced_is_noted(command: Command) -> None:
    ran = command("crash", "--target", named("unsynced"), "--states", 4, "--quiet")
    assert ran.code == 0, ran
    assert "as part of the deployment" in ran.out


@pytest.mark.quality
@pytest.mark.slow
def test_a_schema_that_is_left_in_part_is_caught(command: Command) -> None:
    """It asks only whether the first of its tables is there."""
    ran = command("crash", "--target", named("steps-once"), "--states", 4, "--quiet")
    assert ran.code == 1, ran
    assert "no such table: late" in ran.out


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("chosen-and-silent", 'must be in the description ("database": "store.sqlite"), or in the answer to "open"'),
        ("random", "in another directory: the same calls must lead to the same names"),
    ],
)
def test_a_place_that_is_not_known_is_said_so(mode: str, said: str, command: Command) -> None:
    ran = command("syscalls", "--target", named(mode), "--quiet")
    assert ran.code == 2, ran
    assert said in ran.err
    assert "Traceback" not in ran.err
