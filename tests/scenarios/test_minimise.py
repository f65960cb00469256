"""What is left of a failing story is needed, and is as plain as it can be. Stories are judged here, not played."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from scenarios.checks import Violation
from scenarios.minimise import minimise, what_suffices
from scenarios.story import Arm, Call, Clear, Limit, Restart, Step, Story
from scenarios.target import Action, Configuration

WRONG = Violation("integrity", "it is wrong")


def call(name: str, **args: object) -> Call:
    return Call(Action(name, args))


def shortest(steps: tuple[Step, ...], fails: Callable[[Story], bool]) -> tuple[Step, ...]:
    def judged(story: Story, _target: object, _directory: Path) -> tuple[Violation | None, Counter[str]]:
        return (WRONG if fails(story) else None), Counter()

    story = Story("none", Configuration(), steps)
    assert fails(story)
    return minimise(story, WRONG, None, Path(), judged)[0].steps  # type: ignore[arg-type]


def armed(story: Story) -> str:
    return ";".join(step.plan for step in story.steps if isinstance(step, Arm))


def called(story: Story) -> set[str]:
    return {step.action.name for step in story.steps if isinstance(step, Call)}


def test_steps_that_are_not_needed_go() -> None:
    steps = (Restart(), call("a"), call("b"), Arm("write@1=FULL"), call("c"), Clear(), call("d"))
    assert shortest(steps, lambda story: "c" in called(story) and bool(armed(story))) == (
        Arm("write@1=FULL"),
        call("c"),
    )


@pytest.mark.parametrize("sticky", ["write@1..=FULL", "write@1..4=FULL", "write@*=FULL"])
def test_a_fault_that_goes_on_happens_once_where_that_suffices(sticky: str) -> None:
    assert shortest((Arm(sticky), call("c")), lambda story: "write" in armed(story)) == (Arm("write@1=FULL"),)


def test_a_fault_that_has_to_go_on_does() -> None:
    steps = (Arm("write@1..=FULL"), call("c"))
    assert shortest(steps, lambda story: ".." in armed(story)) == (Arm("write@1..=FULL"),)


def test_of_two_faults_the_one_that_suffices_is_left() -> None:
    steps = (Arm("write@1=FULL;sync@2=IOERR_FSYNC"), call("c"))
    assert shortest(steps, lambda story: "sync" in armed(story)) == (Arm("sync@2=IOERR_FSYNC"),)


def test_of_two_faults_that_are_both_needed_both_are_left() -> None:
    plan = "write@1=FULL;sync@2=IOERR_FSYNC"
    assert shortest((Arm(plan), call("c")), lambda story: armed(story) == plan) == (Arm(plan),)


def test_a_limit_that_is_needed_stays() -> None:
    limit = Limit("steps", 45)
    assert shortest((limit, call("c")), lambda story: limit in story.steps) == (limit,)


def test_a_call_in_a_batch_or_elsewhere_is_made_by_itself() -> None:
    inner = {"name": "c", "args": {"key": 1}}
    for outer in (call("elsewhere", call=inner), call("batch", calls=[{"name": "b", "args": {}}, inner])):
        assert shortest((outer,), lambda story: "'c'" in repr(story.steps)) == (call("c"),)


def test_a_batch_that_is_needed_loses_what_is_not() -> None:
    outer = call("batch", calls=[{"name": name, "args": {"key": 1}} for name in "abc"])
    (left,) = shortest((outer,), lambda story: "batch" in called(story) and "'b'" in repr(story.steps))
    assert [one["name"] for one in left.action.args["calls"]] == ["b"]  # type: ignore[union-attr]


def test_an_argument_that_is_needed_stays() -> None:
    steps = (call("c", key=1, value=2),)
    assert shortest(steps, lambda story: "'key'" in repr(story.steps)) == (call("c", key=1),)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((call("c"),), ""),
        ((Arm("write@1=FULL"), call("c")), "write@1=FULL alone suffices"),
        ((Limit("pages", 0), call("c")), "the database may grow by 0 pages alone suffices"),
        (
            (Arm("write@1=FULL;sync@2=IOERR_FSYNC"), call("c")),
            "it takes write@1=FULL and sync@2=IOERR_FSYNC: without any one of them the check holds",
        ),
    ],
)
def test_what_suffices_is_said(steps: tuple[Step, ...], words: str) -> None:
    assert what_suffices(Story("none", Configuration(), steps)) == words
