"""Times are always ordered, and a finished task has a date to prune it."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ledger_samples import TASK
from msgspec.structs import replace

from tornpage.ledger.records import (
    Status,
)
from tornpage.ledger.rules import cleanup_time, ordered

HOUR_MS = 60 * 60 * 1_000
# A narrow range, so that ties and every order of the four times come up.
moments = st.integers(min_value=-5, max_value=5)
timed_tasks = st.builds(
    lambda **times: replace(TASK, **times),
    created_at=moments,
    started_at=st.none() | moments,
    ended_at=st.none() | moments,
    last_event_at=st.none() | moments,
    cleanup_after=st.none() | moments,
)


def present_times(task):
    times = (task.created_at, task.started_at, task.ended_at, task.last_event_at)
    return [time for time in times if time is not None]


@settings(derandomize=True, deadline=None)
@given(timed_tasks)
def test_created_at_is_the_earliest_of_all_times_present(task):
    assert ordered(task).created_at == min(present_times(task))
    assert ordered(task).created_at == min(present_times(ordered(task)))


@settings(derandomize=True, deadline=None)
@given(timed_tasks)
def test_started_at_is_not_before_created_at(task):
    after = ordered(task)
    assert after.started_at is None or after.started_at >= after.created_at


@settings(derandomize=True, deadline=None)
@given(timed_tasks)
def test_ended_at_and_last_event_at_are_not_before_started_at_or_created_at(task):
    after = ordered(task)
    floor = after.created_at if after.started_at is None else after.started_at
    assert all(time >= floor for time in (after.ended_at, after.last_event_at) if time is not None)


@settings(derandomize=True, deadline=None)
@given(timed_tasks)
def test_ordering_twice_is_ordering_once_and_makes_no_new_object(task):
    once = ordered(task)
    assert ordered(once) is once


@settings(derandomize=True, deadline=None)
@given(timed_tasks)
@example(replace(TASK, created_at=5, started_at=1, ended_at=0, last_event_at=2))
def test_a_time_moves_no_further_than_it_must(task):
    after = ordered(task)
    floor = after.created_at if task.started_at is None else task.started_at
    assert after == replace(
        task,
        created_at=after.created_at,
        ended_at=None if task.ended_at is None else max(task.ended_at, floor),
        last_event_at=None if task.last_event_at is None else max(task.last_event_at, floor),
    )


@settings(derandomize=True, deadline=None)
@given(timed_tasks)
def test_an_absent_time_stays_absent(task):
    after = ordered(task)
    for name in ("started_at", "ended_at", "last_event_at", "cleanup_after"):
        assert (getattr(task, name) is None) == (getattr(after, name) is None)


def test_a_task_in_order_comes_back_as_the_same_object():
    task = replace(TASK, started_at=1_000, ended_at=1_000, last_event_at=5_000)
    assert ordered(task) is task


def test_a_start_before_the_creation_moves_the_creation():
    assert ordered(replace(TASK, started_at=900)).created_at == 900


def test_an_end_before_the_start_becomes_the_start_and_still_is_the_earliest_time():
    after = ordered(replace(TASK, started_at=1_200, ended_at=500))
    assert (after.created_at, after.started_at, after.ended_at) == (500, 1_200, 1_200)


def test_cleanup_after_is_a_plan_and_takes_no_part_in_the_order():
    task = replace(TASK, cleanup_after=1)
    assert ordered(task) is task


@pytest.mark.parametrize(
    ("times", "base"),
    [
        ({"ended_at": 3_000, "last_event_at": 2_000}, 3_000),
        ({"last_event_at": 2_000}, 2_000),
        ({}, 1_000),
        ({"ended_at": 0, "last_event_at": 2_000}, 0),
    ],
)
def test_cleanup_is_seven_days_after_ended_at_else_last_event_at_else_created_at(times, base):
    for status in (Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED):
        assert cleanup_time(replace(TASK, status=status, **times)) == base + 7 * 24 * HOUR_MS
    assert cleanup_time(replace(TASK, status=Status.LOST, **times)) == base + 24 * HOUR_MS
