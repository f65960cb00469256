"""The parts of a crash search share one recording of the workload, and come to what each comes to by itself."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import crash_places
import pytest

from tornpage import Action, faults
from tornpage.scenarios.model.events import CrashesTried, Event
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.model.work import Done
from tornpage.scenarios.search.crash import played
from tornpage.scenarios.search.crash.search import CrashSearch
from tornpage.scenarios.search.recorder import Recorder


class Fails(crash_places.Keys):
    def put(self, name: str, value: Any) -> None:
        if value == 20:
            raise RuntimeError("twenty is too much")
        super().put(name, value)


class Long(crash_places.Base):
    """Thirty calls: three parts."""

    calls = tuple(Action("put", {"name": f"key {number % 7}", "value": number}) for number in range(30))


class FailsLate(Long):
    kind = Fails


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps were played each time the workload was."""
    found: list[int] = []
    original = played.play_tape

    def spied(tape: played.Tape, *rest: Any, **options: Any) -> played.Played:
        found.append(len(tape.steps))
        return original(tape, *rest, **options)

    monkeypatch.setattr(played, "play_tape", spied)
    return found


def done(target: Any, home: Path, *, together: bool) -> list[tuple[Done, list[Event]]]:
    """What each part of the workload comes to and tells."""
    found = []
    with faults.install() as shims, shims.deterministic():
        scope: AbstractContextManager[object] = nullcontext()
        for number in range(3):
            told: list[Event] = []
            recorder = Recorder((told.append,), keep=lambda _: "", deadline=None, most_findings=5)
            search = CrashSearch(target(), recorder, home, most_states_per_call=5)
            if together and not number:
                scope = search.company()
                scope.__enter__()
            part = [one for one in search.parts() if one.kind == "workload"][number]
            result = search.do(part)
            found.append((result, [one for one in told if isinstance(one, CrashesTried)]))
        scope.__exit__(None, None, None)
    return found


@pytest.mark.slow
def test_parts_share_one_recording_and_come_to_what_each_comes_to_alone(home: Path, plays: list[int]) -> None:
    together = done(Long, home / "here", together=True)
    assert plays == [30]
    alone = done(Long, home / "here", together=False)
    assert plays == [30] * 4
    assert [(one.counts, told) for one, told in together] == [(one.counts, told) for one, told in alone]
    assert [one.counts["states"] > 50 for one, _ in together] == [True] * 3


def test_a_workload_that_fails_late_is_judged_up_to_the_part_in_which_it_does(home: Path, plays: list[int]) -> None:
    (first, _), (second, _), (last, _) = done(FailsLate, home, together=True)
    assert plays == [30]
    assert first.error is None
    assert first.counts["states"] > 50
    for part in (second, last):
        assert isinstance(part.error, TargetError)
        assert "twenty is too much" in str(part.error)
        assert not part.counts["states"]
