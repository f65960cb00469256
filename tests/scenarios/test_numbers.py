"""Numbers that a failed call has used up are gaps, and no finding."""

from pathlib import Path

import pytest
from numbering_stores import Counted, Doubled, Upserted

from tornpage import Action, Configuration, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.numbers import is_renumbered
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario, Step

WAL = Configuration("wal", "FULL")
A, B = (Call(Action("enter", {"page": page})) for page in "ab")
FAILS = (Arm("write:wal@1=FULL"), A, Clear())
MAYBE = (Arm("sync:wal@1/after=IOERR_FSYNC"), A, Clear())


def played(target: type[Counted], home: Path, *steps: Step) -> Violation | None:
    return play(Scenario(target.__name__, WAL, steps), target(), home)[0]


@pytest.mark.parametrize("fails", [FAILS, MAYBE], ids=["written-not", "maybe-written"])
@pytest.mark.parametrize("crash", [False, True], ids=["goes-on", "crashes"])
@pytest.mark.parametrize("target", [Counted, Upserted])
def test_a_number_that_a_failed_call_has_used_up_is_a_gap(
    target: type[Counted], fails: tuple[Step, ...], crash: bool, shim: faults.Shim, home: Path
) -> None:
    ends = (Restart(crash=True),) if crash else ()
    assert played(target, home, A, *fails, *ends, B, *fails, B, *ends, A) is None


def test_a_maybe_committed_write_may_have_a_number_of_its_own(shim: faults.Shim, home: Path) -> None:
    assert played(Counted, home, A, *FAILS, *MAYBE, Restart(crash=True), B) is None


def test_one_thing_too_much_is_no_gap(shim: faults.Shim, home: Path) -> None:
    violation = played(Doubled, home, A, *FAILS, B)
    assert violation is not None
    assert violation.code == "acknowledged-is-durable"


@pytest.mark.parametrize(
    ("before", "wanted", "seen", "is_so"),
    [
        ({}, {"1": "a"}, {"2": "a"}, True),
        ({}, {"a": [1, "x"]}, {"a": [3, "x"]}, True),
        ({"1": "a"}, {"1": "a", "t/2": {"id": 2}}, {"1": "a", "t/3": {"id": 3}}, True),
        ({}, {"1": "a", "2": "b"}, {"2": "a", "3": "b"}, True),
        ({}, {"2": "a"}, {"1": "a"}, False),
        ({}, {"1": "a"}, {"2": "b"}, False),
        ({}, {"1": "a"}, {"1": "a", "2": "a"}, False),
        ({"1": "a"}, {"2": "b"}, {"1": "a", "3": "b"}, False),
        ({"1": "a"}, {"1": "b"}, {"1": "c"}, False),
        ({"n": 1}, {"n": 2}, {"n": 3}, False),
        ({}, {"2": [2, 7]}, {"3": [3, 8]}, False),
    ],
)
def test_numbered_on_is_what_is_the_same_but_for_one_larger_number(
    before: dict[str, object], wanted: dict[str, object], seen: dict[str, object], is_so: bool
) -> None:
    assert is_renumbered(before, wanted, seen) == is_so
