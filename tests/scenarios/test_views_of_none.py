"""Views whose values are None, as `dict.fromkeys(names)` makes them: a key with None is not an absent one."""

import pickle

import pytest

from tornpage.scenarios.execution.finding.views import Row, rows_of
from tornpage.scenarios.execution.finding.words import changes
from tornpage.scenarios.model.beats_key import adds_one_key
from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.crash_oracle import History, Outcome
from tornpage.scenarios.model.judging.oracle import Answer, may_have_stopped_at
from tornpage.scenarios.model.target import Configuration

A, AB = {"a": None}, {"a": None, "b": None}
FILE, WAL = Configuration("file", "FULL"), Configuration("wal", "FULL")
DONE, RAISED = Answer("done"), Answer("raised", OSError("disk"))


def history(configuration: Configuration) -> History:
    """The key `a` was added."""
    made = History(configuration, {})
    made.called(1, "add a", 0, 10, DONE, (), A, A)
    return made


def test_a_difference_is_told_as_one() -> None:
    assert describe(differences(AB, A), "memory", "the file") == "b: memory has None, the file has nothing"
    assert describe(differences({"a": {"x": None}}, {"a": {}}), "memory", "the file") == (
        "a: x is None in memory and nothing in the file"
    )
    assert rows_of({"memory": AB, "disk": A}) == (Row("b", {"memory": "None", "disk": None}),)
    assert changes(A, AB) == ("+ b: None",)


def test_what_a_failed_call_has_left_in_a_file_may_come_back() -> None:
    made = history(FILE)
    made.called(2, "add b", 10, 20, RAISED, (), AB, A)
    assert made.judge(20, AB, power=True) == Outcome()


def test_a_key_that_a_pending_call_leaves_alone_is_lost() -> None:
    made = history(WAL)
    made.called(2, "add b", 10, 20, DONE, (), AB, AB)
    with pytest.raises(Violation) as caught:
        made.judge(15, {"b": None}, power=True)
    assert caught.value.code == "acknowledged-is-durable"


def test_a_key_of_no_stage_is_not_half_way() -> None:
    stages = ({}, A, AB)
    assert may_have_stopped_at(A, stages)
    assert not may_have_stopped_at(A | {"z": None}, stages)


def test_the_beat_adds_a_key_and_takes_none_away() -> None:
    assert adds_one_key(A, AB)
    assert not adds_one_key(A, {"b": None, "c": None})


def test_of_long_values_the_part_that_differs_is_shown() -> None:
    found = differences({"a": "x" * 500 + "a" + "y" * 100}, {"a": "x" * 500 + "b"})
    assert describe(found, "memory", "the file") == (
        f"a: memory has ...{'x' * 15}a{'y' * 41}..., the file has ...{'x' * 15}b'"
    )


def test_absence_is_the_same_in_another_process() -> None:
    assert pickle.loads(pickle.dumps(ABSENT)) is ABSENT  # noqa: S301 - our own
