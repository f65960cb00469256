"""What a call answers is judged: a wrong answer is found in every search, and no answer that differs by itself is."""

import datetime
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import answering_stores
import pytest

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.judging.answers import NOT_COMPARED, NotCompared, agreed, as_answer, as_data, is_wrong
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario
from tornpage.scenarios.model.target import Action, Target, TargetError
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import ProcessTarget

Search = Callable[..., Recorder]


def codes(recorder: Recorder) -> set[str]:
    return {found.finding.code for found in recorder.findings}


def notes(recorder: Recorder) -> str:
    return "\n".join(note for ended in recorder.ended for note in ended.notes)


@dataclass
class Point:
    x: int
    y: tuple[float, ...]


def test_what_is_data_in_another_dress_is_compared() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row = connection.execute("SELECT 1 AS one, x'00ff' AS two").fetchone()
    connection.close()
    assert as_data([row, {1: {"b", "a"}}, Point(1, (0.5,)), datetime.date(2026, 1, 2), None, True]) == [
        {"one": 1, "two": "bytes 00ff"}, {"1": ["a", "b"]}, {"x": 1, "y": [0.5]}, "2026-01-02", None, True,
    ]  # fmt: skip
    assert as_data(float("nan")) == as_data(float("nan"))


class Record:
    def __init__(self, x: int) -> None:
        self.x = x
        self._read_when = "later"


class OfAttrs(Record):
    __attrs_attrs__ = (SimpleNamespace(name="x"),)


class OfPydantic(Record):
    model_fields: ClassVar[dict[str, object]] = {"x": object()}


class OfAMapper(OfPydantic):
    """As SQLModel has them: what an expired row is asked for is read from the file."""

    __mapper__ = object()


@pytest.mark.parametrize("kind", [OfAttrs, OfPydantic])
def test_records_of_other_libraries_are_compared_by_their_fields(kind: type[Record]) -> None:
    assert as_data([kind(1)]) == [{"x": 1}]


def test_a_row_that_a_mapper_may_read_later_is_not_compared() -> None:
    assert isinstance(as_answer(OfAMapper(1)), NotCompared)


@pytest.mark.parametrize("returned", [object(), iter([1]), [lambda: 1], (n for n in range(3)), int])
def test_what_is_no_data_is_left_alone_and_named(returned: object) -> None:
    answer = as_answer(returned)
    assert isinstance(answer, NotCompared)
    assert "can't be compared" in answer.reason


def test_a_value_that_contains_itself_is_not_compared() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert isinstance(as_answer(ring), NotCompared)


def test_answers_that_differ_by_themselves_are_not_compared() -> None:
    assert agreed(1, 1) == 1
    assert "returns 1 and 2" in agreed(1, 2).reason
    assert not is_wrong(1, NOT_COMPARED, lambda: 1)
    # What was 2 when the points were counted is 3 by now: so it is another one each time.
    assert not is_wrong(3, 2, lambda: 3)
    assert is_wrong(3, 2, lambda: 2)


def test_an_answer_drawn_from_two_is_repeated_until_it_varies() -> None:
    alike_by_chance = iter([2, 2, 2, 2, 2, 2, 3])
    assert not is_wrong(3, 2, lambda: next(alike_by_chance))


@pytest.mark.parametrize(
    "target", [answering_stores.SwallowsTarget, answering_stores.CountsTarget, answering_stores.YieldsLessTarget]
)
def test_a_read_that_swallows_its_error_is_found_and_replays(
    target: type[Target], search: Search, home: Path, shim: object
) -> None:
    recorder = search(target(), points=8, configurations=1, most_findings=1)
    assert codes(recorder) == {"wrong-answer"}
    finding = recorder.findings[0].finding
    assert "without the fault it returns" in finding.message
    again, _ = play(finding.scenario, target(), home)
    assert again is not None
    assert again.code == "wrong-answer"


SILENT = [
    answering_stores.NotesTarget,
    answering_stores.CursorTarget,
    answering_stores.IdTarget,
    answering_stores.TimeTarget,
    answering_stores.FluentTarget,
    answering_stores.NumbersTarget,
    answering_stores.DroppedTarget,
    answering_stores.YieldsTarget,
    answering_stores.ReportsTarget,
]


@pytest.mark.parametrize("target", SILENT)
def test_answers_of_a_right_store_are_never_called_wrong(target: type[Target], search: Search) -> None:
    recorder = search(target(), "sweep", "fuzz", points=3, scenarios=4, steps=10, configurations=1)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("fired") > 10


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (answering_stores.CursorTarget, "put is not compared: a Cursor can't be compared"),
        (answering_stores.FluentTarget, "put is not compared: a Fluent can't be compared"),
        (answering_stores.IdTarget, "put is not compared: called twice from the same state"),
        (
            answering_stores.NumbersTarget,
            "put is not compared: without a fault it is 1 in the session that made the calls before it, and 0 in one",
        ),
        (answering_stores.DroppedTarget, "get is not compared: the target declares it"),
    ],
)
def test_what_is_not_compared_is_said(target: type[Target], said: str, search: Search) -> None:
    assert said in notes(search(target(), points=1, configurations=1))


def test_a_failure_that_is_returned_and_not_raised_is_shown_with_what_to_do(search: Search) -> None:
    recorder = search(answering_stores.RaisesNothingTarget(), points=2, configurations=1)
    assert codes(recorder) == {"acknowledged-is-durable"}
    said = recorder.findings[0].finding.message
    assert "it returned {'ok': False, 'error': '" in said
    assert "let the target's `answer` raise an exception" in said
    # Where `answer` raises, the caller has to learn what went wrong, as from any other exception.
    assert codes(search(answering_stores.ReportsWithoutWhyTarget(), points=2, configurations=1)) == {
        "error-is-not-hidden"
    }


@pytest.mark.parametrize("name", ["contend", "limits"])
def test_rivals_and_limits_show_wrong_answers(name: str, search: Search) -> None:
    profile = Profile("test", 1, None, 0, 0, rival_points=20, limit_points=20)
    recorder = _run(answering_stores.JournalTarget(), Plan((name,), profile, report=None, most_findings=1))
    assert codes(recorder) == {"wrong-answer"}


def _run(target: Target, plan: Plan) -> Recorder:
    from tornpage.scenarios.run.campaign import run

    return run(target, plan)


def test_the_machine_finds_a_wrong_answer(search: Search) -> None:
    recorder = search(answering_stores.SwallowsTarget(), "fuzz", scenarios=300, steps=12, most_findings=1)
    assert codes(recorder) == {"wrong-answer"}


def test_a_session_of_ones_own_that_returns_a_cursor_is_a_mistake_in_the_target(search: Search) -> None:
    with pytest.raises(TargetError, match=r"answer to put is a Cursor, which can't be compared; let `call` return"):
        search(answering_stores.OwnSessionTarget())


def test_answers_after_a_failed_call_are_not_counted_by_memory(home: Path, shim: object) -> None:
    put = Call(Action("put", {"name": "a", "text": "1"}))
    target = answering_stores.NumbersTarget()
    scenario = Scenario(
        target.name, target.configurations[0], (put, Restart(), put, Arm("write@1=FULL"), put, Clear(), put)
    )
    violation, counts = play(scenario, target, home)
    assert violation is None
    assert counts["raised"] == 1


SPEAKING = Path(__file__).with_name("speaking_stores.py")


@pytest.fixture
def program() -> Iterator[Callable[[str], ProcessTarget]]:
    started: list[ProcessTarget] = []

    def start(mode: str) -> ProcessTarget:
        started.append(ProcessTarget((sys.executable, str(SPEAKING), mode), f"speaking {mode}"))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_program_may_answer_with_a_value(program: Callable[[str], ProcessTarget], tmp_path: Path) -> None:
    from tornpage.scenarios.model.target import Environment

    target = program("answers")
    session = target.open(tmp_path, target.configurations[0], Environment())
    assert session.call(Action("put", {"key": "a", "value": 1})) == {"put": "a"}
    session.close()


@pytest.mark.slow
def test_real_kills_compare_answers_and_leave_a_right_store_alone(search: Search) -> None:
    plan = Plan(("kill",), Profile("test", 1, None, 0, 0, kills=12), report=None)
    for target in (answering_stores.NotesTarget(), answering_stores.TimeTarget(), answering_stores.NumbersTarget()):
        recorder = _run(target, plan)
        assert [found.finding.message for found in recorder.findings] == []
        assert recorder.count("kills") > 0
