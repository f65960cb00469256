"""Numbers that a failed call has used up are gaps, and no finding; nor are the ids of rows that two callers made."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from appending_stores import CountedFirst, Logged
from numbering_stores import (
    BlocksShown,
    Counted,
    Doubled,
    InBlocks,
    Left,
    LeftFromTheBeginning,
    RetriedBlocks,
    Summed,
    Upserted,
    rows_of,
)  # fmt: skip

from tornpage import Action, Configuration, View, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.numbers import (
    is_counted_anew,
    is_moved_on,
    is_of_another_block,
    is_renumbered,
    is_with_ids,
    larger_ids,
)
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario, Step
from tornpage.scenarios.model.target import SetUpError
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]
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


LEAVE_A, LEAVE_B = (Call(Action("leave", {"page": page})) for page in "ab")


def test_a_number_whose_row_is_gone_may_be_given_again_after_a_restart(shim: faults.Shim, home: Path) -> None:
    assert played(Left, home, A, B, LEAVE_B, Restart(), B, A) is None
    assert played(Left, home, A, LEAVE_A, Restart(), B, *FAILS, Restart(crash=True), A) is None
    found = played(LeftFromTheBeginning, home, A, B, LEAVE_A, Restart(), A)
    assert found is not None
    assert "visit/1: the expected state has nothing, the file has 'a'" in str(found)


@pytest.mark.parametrize("before", [(A, A), (A,)])
def test_a_sum_that_begins_anew_after_a_restart_is_found(
    before: tuple[Step, ...], shim: faults.Shim, home: Path
) -> None:
    found = played(Summed, home, *before, Restart(), A)
    assert found is not None
    assert "the file has '10'" in str(found)


@pytest.mark.parametrize(
    ("before", "wanted", "seen", "is_so"),
    [
        ({}, {"1": "a"}, {"1": "a"}, True),
        ({"t/1": "x"}, {"t/1": "x", "t/4": "a"}, {"t/1": "x", "t/2": "a"}, True),
        ({"t/1": "x", "u/9": "y"}, {"t/1": "x", "u/9": "y", "t/4": "a"}, {"t/1": "x", "u/9": "y", "t/2": "a"}, True),
        ({"a": ["x", 1], "b": ["x", 2]}, {"a": ["y", 5], "b": ["x", 2]}, {"a": ["y", 3], "b": ["x", 2]}, True),
        ({"a": ["x", 1], "b": ["x", 2]}, {"a": ["y", 5]}, {"a": ["y", 2]}, True),
        ({"t/5": "x"}, {"t/5": "x", "t/9": "a"}, {"t/5": "x", "t/7": "a"}, True),
        # A number that is there, a larger one, another text, a row that stays, and one too many.
        ({"t/3": "x"}, {"t/3": "x", "t/4": "a"}, {"t/3": "x", "t/2": "a"}, False),
        ({"a": ["x", 1], "b": ["x", 3]}, {"a": ["y", 5], "b": ["x", 3]}, {"a": ["y", 3], "b": ["x", 3]}, False),
        ({}, {"1": "a"}, {"2": "a"}, False),
        ({}, {"2": "a"}, {"1": "b"}, False),
        ({"a": 1}, {"2": "a"}, {"a": 1, "1": "a"}, False),
        ({}, {"2": "a"}, {"1": "a", "0": "a"}, False),
        ({}, {"2": [1, 7]}, {"1": {"a": 1, "b": 7}}, False),
        # A count that begins anew, and a part of a sum.
        ({"a": 2}, {"a": 3}, {"a": 1}, False),
        ({"t/a": ["x", 2]}, {"t/a": ["x", 3]}, {"t/a": ["x", 1]}, False),
        ({"a": 100}, {"a": 150}, {"a": 120}, False),
        ({}, {"a": 50}, {"a": 20}, False),
        ({"t/5": "x"}, {"t/5": "x", "t/9": "a"}, {"t/5": "x", "t/8": "a"}, False),
    ],
)
def test_counted_anew_is_what_has_smaller_numbers_than_before_and_larger_ones_than_the_rest(
    before: View, wanted: View, seen: View, is_so: bool
) -> None:
    assert is_counted_anew(before, wanted, seen, 2) == is_so


def test_a_block_of_numbers_that_a_restart_loses_is_a_gap(shim: faults.Shim, home: Path) -> None:
    assert played(InBlocks, home, A, Restart(), B, A, B) is None


class Numbered(InBlocks):
    """Shows the numbers, and not which blocks are taken."""

    def view(self, store: Any) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return rows_of(connection)


def test_a_session_goes_on_with_its_block_after_a_call_that_failed(shim: faults.Shim, home: Path) -> None:
    assert played(Numbered, home, A, *FAILS, B, A) is None
    # And a new one does not.
    assert played(Numbered, home, A, *FAILS, B, Restart(), A, B) is None


@pytest.mark.parametrize(
    ("wanted", "seen", "is_so"),
    [
        ({"t/1": "x", "t/11": "a"}, {"t/1": "x", "t/3": "a"}, True),
        ({"t/1": "x", "t/3": "a"}, {"t/1": "x", "t/11": "a"}, True),
        # Not the next one, another row, one that was there, and a sum.
        ({"t/1": "x", "t/11": "a"}, {"t/1": "x", "t/9": "a"}, False),
        ({"t/1": "x", "t/11": "a"}, {"t/1": "x", "t/3": "b"}, False),
        ({"t/1": "x", "t/11": "a"}, {"t/1": "a"}, False),
        ({"t/1": "x", "sum": 7}, {"t/1": "x", "sum": "6"}, False),
        ({"t/1": 7}, {"t/1": 6}, False),
    ],
)
def test_of_another_block_is_what_is_the_same_with_other_new_numbers(wanted: View, seen: View, is_so: bool) -> None:
    assert is_of_another_block({"t/1": "x"}, wanted, seen, 2) == is_so


def test_a_number_that_is_not_larger_is_wrong_after_a_restart_too(shim: faults.Shim, home: Path) -> None:
    violation = played(RetriedBlocks, home, A, Restart(), B, Arm("write:wal@1=FULL"), A)
    assert violation is not None
    assert violation.code == "wrong-answer"


def test_a_view_of_numbers_that_a_new_session_does_not_go_on_with_is_a_broken_rule(search: Search) -> None:
    with pytest.raises(SetUpError, match="the-view-shows-what-later-views-depend-on"):
        search(BlocksShown(), points=1)


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


@pytest.mark.parametrize(
    ("before", "wanted", "seen", "ids"),
    [
        # The last row was deleted after the new one had come, and not before.
        ({"1": "x"}, {"1": "y"}, {"2": "y"}, {1: 2}),
        ({"2": "z", "log/2": "a"}, {"2": {"id": 2}, "log/2": "b"}, {"3": {"id": 3}, "log/3": "b"}, {2: 3}),
        ({"1": "x"}, {"1": "y", "2": "z"}, {"2": "y", "3": "z"}, {1: 2, 2: 3}),
        ({"1": "x", "2": "z"}, {"1": "y"}, {"2": "y"}, {1: 2}),
        # Another row, one too many, one that stays, a smaller id, one that was free, and a value that is no id.
        ({"1": "x"}, {"1": "y"}, {"2": "z"}, {}),
        ({"1": "x"}, {"1": "y"}, {"2": "y", "3": "y"}, {}),
        ({"1": "x", "a": 1}, {"1": "y"}, {"2": "y", "a": 1}, {}),
        ({"2": "x"}, {"2": "y"}, {"1": "y"}, {}),
        ({}, {"1": "y"}, {"2": "y"}, {}),
        ({"a": 5}, {"a": 6}, {"a": 7}, {}),
        ({"1": "x"}, {"1": ["y", 4]}, {"2": ["y", 5]}, {}),
        # Places in a list: x was moved, and not deleted.
        ({"1": "y", "2": "x"}, {"1": "x", "2": "y"}, {"1": "x", "3": "y"}, {}),
    ],
)
def test_a_row_has_a_larger_id_where_the_one_before_it_was_still_there(
    before: View, wanted: View, seen: View, ids: dict[int, int]
) -> None:
    assert larger_ids(before, wanted, seen) == ids


def test_an_answer_may_have_the_new_id_and_no_other_difference() -> None:
    assert is_with_ids({1: 2}, {"id": 1, "n": 1}, {"id": 2, "n": 1})
    assert not is_with_ids({1: 2}, {"id": 1, "n": 3}, {"id": 2, "n": 4})
    assert not is_with_ids({1: 2}, "x", "y")


FIRST, SECOND, OVER, READ = map(Call, Logged.calls)
LOG_FAILS = (Arm("write@1=FULL"), SECOND, Clear())


@pytest.mark.parametrize("times", [1, 2])
def test_a_place_in_a_file_is_larger_by_what_failed_calls_have_left_there(
    times: int, shim: faults.Shim, home: Path
) -> None:
    steps = (FIRST, *LOG_FAILS * times, OVER, READ, SECOND, Restart(crash=True), OVER, READ)
    scenario = Scenario("logged", Logged.configurations[0], steps)
    assert play(scenario, Logged(), home)[0] is None


def test_a_place_that_is_larger_without_any_bytes_there_is_found(shim: faults.Shim, home: Path) -> None:
    scenario = Scenario("counted-first", Logged.configurations[0], (FIRST, *LOG_FAILS, OVER))
    violation, _ = play(scenario, CountedFirst(), home)
    assert violation is not None
    assert violation.code == "acknowledged-is-durable"


@pytest.mark.parametrize(
    ("seen", "bytes_left", "is_moved"),
    [
        ({"a": [11, 5]}, {6}, True),
        ({"a": [11, 5]}, {5}, False),
        ({"a": [11, 5]}, set(), False),
        ({"a": [5, 5]}, {6}, False),
        ({"a": [11, 6]}, {6}, False),
        ({"b": [11, 5]}, {6}, False),
    ],
)
def test_moved_on_is_what_is_larger_by_the_bytes_that_were_left(
    seen: View, bytes_left: set[int], is_moved: bool
) -> None:
    assert is_moved_on({"a": [5, 5]}, seen, bytes_left) is is_moved
