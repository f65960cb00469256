"""What may happen to a task: over every pair of statuses, and each stamp that goes with it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from tornpage.ledger.errors import IllegalTransition, UsageError
from tornpage.ledger.records import TERMINAL, DeliveryStatus, NotifyPolicy, Runtime, Status, Task, TerminalOutcome
from tornpage.ledger.rules import (
    NewTask,
    allowed_next,
    cleanup_time,
    finish,
    new_task,
    ordered,
    progress,
    start,
    with_delivery_status,
    with_notify_policy,
)

CREATED = 10_000
NOW = 20_000
DAY_MS = 24 * 60 * 60 * 1_000
ENDS = [status for status in Status if status in TERMINAL]
FINAL = [status for status in ENDS if status is not Status.LOST]


def task_in(status: Status, **changes: object) -> Task:
    request = NewTask(runtime=Runtime.CLI, task="compile", owner_key="s", run_id="run-1", status=status)
    return replace(new_task(request, task_id="task-1", now=CREATED), **changes)


def attempt(task: Task, wanted: Status, run_id: str | None = None) -> Task:
    """The change to this status by the one function that makes it; queued is never a change anyone can ask for."""
    return start(task, NOW) if wanted is Status.RUNNING else finish(task, NOW, wanted, run_id=run_id)


# Which changes are allowed.

ALLOWED = {(Status.QUEUED, Status.RUNNING)} | {
    (before, end) for before in (Status.QUEUED, Status.RUNNING) for end in ENDS
}
PAIRS = [(before, after) for before in Status for after in Status if after is not Status.QUEUED]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_queued_to_running_to_terminal_and_queued_to_terminal_and_nothing_else(before, after):
    task = task_in(before)
    if (before, after) in ALLOWED:
        assert attempt(task, after).status is after
    else:
        with pytest.raises(IllegalTransition):
            attempt(task, after)


@pytest.mark.parametrize(("before", "after"), PAIRS)
@pytest.mark.parametrize("run_id", ["run-1", " run-1 "])
def test_only_lost_is_replaced_by_the_real_end_that_its_own_run_reports(before, after, run_id):
    task = task_in(before)
    real_end = before is Status.LOST and after in FINAL
    if real_end or (before, after) in ALLOWED:
        assert attempt(task, after, run_id).status is after
    else:
        with pytest.raises(IllegalTransition):
            attempt(task, after, run_id)


def test_the_run_ids_of_owner_and_reporter_are_compared_trimmed():
    lost = task_in(Status.LOST, run_id=" run-1\n")
    assert finish(lost, NOW, Status.SUCCEEDED, run_id="run-1 ").status is Status.SUCCEEDED


@pytest.mark.parametrize("owner", ["run-1", None, "", "  "])
@pytest.mark.parametrize("run_id", ["run-2", None, "", "  "])
def test_lost_stays_lost_for_another_run_and_for_no_run(owner, run_id):
    with pytest.raises(IllegalTransition):
        finish(task_in(Status.LOST, run_id=owner), NOW, Status.SUCCEEDED, run_id=run_id)


@pytest.mark.parametrize("before", list(Status))
@pytest.mark.parametrize("run_id", [None, "run-1"])
def test_allowed_next_says_exactly_what_is_not_refused(before, run_id):
    task = task_in(before)
    accepted = set()
    for after in Status:
        try:
            attempt(task, after, run_id)
        except (IllegalTransition, UsageError):
            continue
        accepted.add(after)
    assert allowed_next(task, run_id) == accepted


@pytest.mark.parametrize("before", list(Status))
def test_terminal_never_becomes_non_terminal(before):
    if before in TERMINAL:
        for run_id in (None, "run-1"):
            assert allowed_next(task_in(before), run_id) <= TERMINAL


def test_a_refusal_names_the_task_from_and_to_and_what_is_allowed():
    with pytest.raises(IllegalTransition) as caught:
        start(task_in(Status.RUNNING), NOW)
    assert str(caught.value) == (
        "task task-1 can't go from running to running: "
        "allowed from running: succeeded, failed, timed_out, cancelled, lost"
    )
    with pytest.raises(IllegalTransition) as caught:
        finish(task_in(Status.CANCELLED), NOW, Status.SUCCEEDED, run_id="run-1")
    assert str(caught.value) == "task task-1 can't go from cancelled to succeeded: cancelled is final"


def test_the_refusal_of_a_lost_task_says_who_may_still_report():
    with pytest.raises(IllegalTransition, match=r"lost is final, but for the real end .* \('run-1'\)"):
        finish(task_in(Status.LOST), NOW, Status.FAILED, run_id="run-2")


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
@pytest.mark.parametrize("before", list(Status))
def test_a_finish_with_a_status_that_is_no_end_is_misuse(before, status):
    with pytest.raises(UsageError, match=f"succeeded, failed, timed_out, cancelled, lost, not {status}"):
        finish(task_in(before), NOW, status)


# Start.


def test_a_start_stamps_the_start_and_the_last_event():
    after = start(task_in(Status.QUEUED), NOW)
    expected = {"status": Status.RUNNING, "started_at": NOW, "last_event_at": NOW}
    assert asdict(after) == asdict(task_in(Status.QUEUED)) | expected


def test_a_start_is_at_the_given_time_else_the_known_one_else_now():
    assert start(task_in(Status.QUEUED, started_at=11_000), NOW, 12_000).started_at == 12_000
    assert start(task_in(Status.QUEUED, started_at=11_000), NOW).started_at == 11_000
    assert start(task_in(Status.QUEUED), NOW).started_at == NOW


def test_a_start_is_an_event_of_now_whenever_the_work_started():
    assert start(task_in(Status.QUEUED), NOW, 12_000).last_event_at == NOW


def test_a_start_reported_from_before_the_creation_moves_the_creation():
    after = start(task_in(Status.QUEUED), NOW, CREATED - 1)
    assert (after.created_at, after.started_at) == (CREATED - 1, CREATED - 1)


# Progress.


@pytest.mark.parametrize("status", list(Status))
def test_progress_may_be_added_in_any_status_and_touches_the_last_event_alone(status):
    before = task_in(status)
    after = progress(before, NOW, " 3  of\n4 ")
    assert after == replace(before, progress_summary="3 of 4", last_event_at=NOW)


def test_blank_progress_is_absent():
    assert progress(task_in(Status.RUNNING, progress_summary="3 of 4"), NOW, " \n").progress_summary is None


# Finish.


@pytest.mark.parametrize("before", [Status.QUEUED, Status.RUNNING])
@pytest.mark.parametrize("end", ENDS)
def test_becoming_terminal_stamps_end_last_event_and_cleanup_together(before, end):
    after = finish(task_in(before), NOW, end)
    retention = DAY_MS if end is Status.LOST else 7 * DAY_MS
    assert (after.ended_at, after.last_event_at, after.cleanup_after) == (NOW, NOW, NOW + retention)


@pytest.mark.parametrize("end", ENDS)
def test_a_given_end_is_the_end_and_the_last_event_and_the_base_of_the_cleanup(end):
    after = finish(task_in(Status.RUNNING), NOW, end, ended_at=15_000)
    assert (after.ended_at, after.last_event_at) == (15_000, 15_000)
    assert after.cleanup_after == cleanup_time(after)


def test_the_cleanup_counts_from_the_end_as_ordered_not_as_the_clock_said():
    after = finish(task_in(Status.RUNNING), CREATED - 5_000, Status.FAILED)
    assert (after.created_at, after.started_at, after.ended_at) == (CREATED - 5_000, CREATED, CREATED)
    assert after.cleanup_after == CREATED + 7 * DAY_MS


@pytest.mark.parametrize("end", ENDS)
def test_the_outcome_is_succeeded_where_the_end_is_and_none_is_given(end):
    expected = TerminalOutcome.SUCCEEDED if end is Status.SUCCEEDED else None
    assert finish(task_in(Status.RUNNING), NOW, end).terminal_outcome is expected
    blocked = finish(task_in(Status.RUNNING), NOW, end, terminal_outcome=TerminalOutcome.BLOCKED)
    assert blocked.terminal_outcome is TerminalOutcome.BLOCKED


def test_a_finish_keeps_what_was_known_and_adds_what_it_says():
    before = task_in(Status.RUNNING, progress_summary="3 of 4", label="nightly")
    after = finish(before, NOW, Status.FAILED, error="boom\n at 3", terminal_summary=" gave\tup ")
    expected = {
        "status": Status.FAILED,
        "ended_at": NOW,
        "last_event_at": NOW,
        "cleanup_after": NOW + 7 * DAY_MS,
        "error": "boom\n at 3",
        "terminal_summary": "gave up",
    }
    assert asdict(after) == asdict(before) | expected


def test_an_error_seen_while_running_stays_unless_the_finish_gives_one():
    before = task_in(Status.RUNNING, error="warned")
    assert finish(before, NOW, Status.FAILED).error == "warned"
    assert finish(before, NOW, Status.FAILED, error="boom").error == "boom"


def test_the_real_end_replaces_all_that_lost_had_inferred():
    lost = finish(task_in(Status.RUNNING), NOW, Status.LOST, error="no worker", terminal_summary="lost it")
    real = finish(lost, NOW + 5_000, Status.SUCCEEDED, run_id="run-1")
    direct = finish(task_in(Status.RUNNING), NOW + 5_000, Status.SUCCEEDED)
    assert real == direct


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "paused"},
        {"ended_at": 1.5},
        {"terminal_outcome": "fine"},
        {"error": 5},
        {"terminal_summary": "\ud800"},
        {"now": 1.5},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_value_is_refused_and_named(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        finish(task_in(Status.RUNNING), **({"now": NOW, "status": Status.FAILED} | wrong))


# Notify policy and delivery status.


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("policy", list(NotifyPolicy))
def test_a_notify_policy_update_also_touches_the_last_event(status, policy):
    before = task_in(status)
    assert with_notify_policy(before, NOW, policy) == replace(before, notify_policy=policy, last_event_at=NOW)


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("delivery", list(DeliveryStatus))
def test_a_delivery_status_update_also_touches_the_last_event(status, delivery):
    before = task_in(status)
    after = with_delivery_status(before, NOW, delivery)
    assert after == replace(before, delivery_status=delivery, last_event_at=NOW)


def test_an_unknown_policy_or_delivery_status_is_refused_with_the_valid_ones():
    with pytest.raises(UsageError, match="policy must be one of done_only, state_changes, silent"):
        with_notify_policy(task_in(Status.RUNNING), NOW, "loud")
    with pytest.raises(UsageError, match="status must be one of pending, delivered"):
        with_delivery_status(task_in(Status.RUNNING), NOW, "sent")


@pytest.mark.parametrize(
    "change",
    [
        lambda now: start(task_in(Status.QUEUED), now, 12_000),
        lambda now: progress(task_in(Status.RUNNING), now, "half"),
        lambda now: finish(task_in(Status.RUNNING), now, Status.FAILED),
        lambda now: with_notify_policy(task_in(Status.RUNNING), now, NotifyPolicy.SILENT),
        lambda now: with_delivery_status(task_in(Status.RUNNING), now, DeliveryStatus.DELIVERED),
    ],
    ids=["start", "progress", "finish", "notify", "delivery"],
)
def test_a_clock_that_tells_no_whole_milliseconds_is_refused(change):
    with pytest.raises(UsageError, match="now must be a whole number of milliseconds"):
        change(NOW + 0.5)


# Whatever happens, with a clock that jumps.

clocks = st.integers(min_value=CREATED - 5, max_value=CREATED + 5)
given_times = st.none() | clocks
steps = st.one_of(
    st.builds(lambda at, given_time: lambda task: start(task, at, given_time), clocks, given_times),
    st.builds(lambda at: lambda task: progress(task, at, "half"), clocks),
    st.builds(
        lambda at, end, given_time, run: lambda task: finish(task, at, end, ended_at=given_time, run_id=run),
        clocks,
        st.sampled_from(ENDS),
        given_times,
        st.sampled_from([None, "run-1", "run-2"]),
    ),
    st.builds(lambda at, to: lambda task: with_notify_policy(task, at, to), clocks, st.sampled_from(NotifyPolicy)),
    st.builds(lambda at, to: lambda task: with_delivery_status(task, at, to), clocks, st.sampled_from(DeliveryStatus)),
)


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(Status), st.lists(steps, max_size=8))
def test_whatever_happens_times_are_ordered_stamps_are_there_and_the_end_is_final(status, happened):
    task = task_in(status)
    for step in happened:
        before = task
        try:
            task = step(before)
        except IllegalTransition:
            continue
        assert ordered(task) is task
        assert (task.ended_at is not None) == (task.status in TERMINAL) == (task.cleanup_after is not None)
        if before.status in TERMINAL:
            assert task.status is before.status or (before.status is Status.LOST and task.status in FINAL)
        if task.status is before.status:
            assert task.cleanup_after == before.cleanup_after
        assert task.task_id == before.task_id
