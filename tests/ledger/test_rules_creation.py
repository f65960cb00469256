"""What a create means: defaults, normal forms, and the task that is already there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from tornpage.ledger.errors import UsageError
from tornpage.ledger.records import (
    TERMINAL,
    DeliveryState,
    DeliveryStatus,
    NotifyPolicy,
    Runtime,
    ScopeKind,
    Status,
    Task,
    TerminalOutcome,
)
from tornpage.ledger.rules import (
    NewTask,
    cleanup_time,
    default_delivery_status,
    find_match,
    merge,
    merge_delivery,
    new_task,
    ordered,
)

NOW = 10_000
DAY_MS = 24 * 60 * 60 * 1_000
TERMINAL_IN_ORDER = [status for status in Status if status in TERMINAL]
KEY_FIELDS = (
    "task_kind",
    "source_id",
    "child_session_key",
    "parent_flow_id",
    "parent_task_id",
    "agent_id",
    "requester_agent_id",
    "run_id",
    "label",
)


def create(*, now: int = NOW, task_id: str = "task-1", **given_fields: object) -> Task:
    fields = {"runtime": Runtime.CLI, "task": "compile", "owner_key": "session-1"} | given_fields
    return new_task(NewTask(**fields), task_id=task_id, now=now)


# Owner, requester and scope.


def test_the_owner_is_the_given_one_trimmed():
    assert create(owner_key=" owner ", requester_session_key="requester").owner_key == "owner"


@pytest.mark.parametrize("owner", [None, "", "  "])
def test_the_owner_is_the_requester_where_none_is_given(owner):
    assert create(owner_key=owner, requester_session_key=" requester ").owner_key == "requester"


@pytest.mark.parametrize("blank", [None, "", " \t"])
def test_a_blank_owner_is_an_error_unless_the_scope_is_system(blank):
    with pytest.raises(UsageError, match="scope session needs an owner"):
        create(owner_key=blank, requester_session_key=blank, scope_kind=ScopeKind.SESSION)
    assert create(owner_key=blank, requester_session_key=blank, scope_kind=ScopeKind.SYSTEM).owner_key == ""


def test_the_requester_is_the_given_one_trimmed_in_either_scope():
    for scope in ScopeKind:
        assert create(requester_session_key=" r ", scope_kind=scope).requester_session_key == "r"


def test_without_a_requester_it_is_empty_for_system_and_the_owner_otherwise():
    assert create(scope_kind=ScopeKind.SYSTEM, requester_session_key=" ").requester_session_key == ""
    assert create(scope_kind=ScopeKind.SESSION).requester_session_key == "session-1"
    assert create(scope_kind=None).requester_session_key == "session-1"


def test_the_scope_is_the_given_one():
    for scope in ScopeKind:
        assert create(requester_session_key="r", scope_kind=scope).scope_kind is scope


def test_the_scope_is_session_if_a_requester_is_there_and_system_if_not():
    assert create(owner_key=None, requester_session_key="r").scope_kind is ScopeKind.SESSION
    assert create(owner_key="o", requester_session_key=None).scope_kind is ScopeKind.SESSION
    nobody = create(owner_key=None, requester_session_key=None)
    assert (nobody.scope_kind, nobody.owner_key, nobody.requester_session_key) == (ScopeKind.SYSTEM, "", "")


# Defaults.


def test_a_task_is_queued_now_by_default():
    task = create()
    assert (task.status, task.created_at, task.last_event_at) == (Status.QUEUED, NOW, NOW)
    assert (task.started_at, task.ended_at, task.cleanup_after) == (None, None, None)


def test_delivery_is_not_applicable_for_system_and_pending_otherwise():
    assert create(scope_kind=ScopeKind.SYSTEM).delivery_status is DeliveryStatus.NOT_APPLICABLE
    assert create(scope_kind=ScopeKind.SESSION).delivery_status is DeliveryStatus.PENDING


def test_delivery_is_parent_missing_with_a_blank_owner():
    assert default_delivery_status(ScopeKind.SESSION, " ") is DeliveryStatus.PARENT_MISSING
    assert default_delivery_status(ScopeKind.SYSTEM, " ") is DeliveryStatus.NOT_APPLICABLE


def test_a_given_delivery_status_is_kept():
    for delivery in DeliveryStatus:
        assert create(delivery_status=delivery).delivery_status is delivery


@pytest.mark.parametrize("delivery", list(DeliveryStatus))
def test_notify_is_silent_where_delivery_is_not_applicable_and_else_done_only(delivery):
    expected = NotifyPolicy.SILENT if delivery == "not_applicable" else NotifyPolicy.DONE_ONLY
    assert create(delivery_status=delivery).notify_policy is expected


def test_a_given_notify_policy_is_kept_whatever_the_delivery():
    for policy in NotifyPolicy:
        assert create(scope_kind=ScopeKind.SYSTEM, notify_policy=policy).notify_policy is policy


def test_last_event_is_the_given_one_else_the_start_else_now():
    assert create(last_event_at=9_500, started_at=9_000).last_event_at == 9_500
    assert create(started_at=9_000).last_event_at == 9_000
    assert create().last_event_at == NOW
    assert create(last_event_at=0).last_event_at == 0


def test_summaries_are_collapsed_and_blank_is_absent():
    task = create(status=Status.FAILED, progress_summary=" 3 of\n 4 ", terminal_summary="gave \t up")
    assert (task.progress_summary, task.terminal_summary) == ("3 of 4", "gave up")
    task = create(status=Status.FAILED, progress_summary=" \n", terminal_summary="")
    assert (task.progress_summary, task.terminal_summary) == (None, None)


@pytest.mark.parametrize("status", TERMINAL_IN_ORDER)
def test_the_outcome_is_succeeded_where_the_status_is_succeeded(status):
    expected = TerminalOutcome.SUCCEEDED if status == "succeeded" else None
    assert create(status=status).terminal_outcome is expected
    assert create(status=status, terminal_outcome=TerminalOutcome.BLOCKED).terminal_outcome == "blocked"


def test_key_fields_are_trimmed_and_blank_is_absent():
    task = create(**{name: f"  {name} " for name in KEY_FIELDS})
    assert {name: getattr(task, name) for name in KEY_FIELDS} == {name: name for name in KEY_FIELDS}
    task = create(**dict.fromkeys(KEY_FIELDS, " \t "))
    assert {getattr(task, name) for name in KEY_FIELDS} == {None}


def test_the_task_text_and_the_error_keep_their_lines():
    task = create(task=" first\n second ", error="Traceback:\n  line 1\n")
    assert (task.task, task.error) == (" first\n second ", "Traceback:\n  line 1\n")
    task = create(task=" ", error=" \n")
    assert (task.task, task.error) == ("", None)


def test_enumerations_may_be_given_as_text():
    task = create(runtime="acp", status="running", scope_kind="system", notify_policy="silent")
    assert task.runtime is Runtime.ACP
    assert task.status is Status.RUNNING
    assert task.scope_kind is ScopeKind.SYSTEM
    assert task.notify_policy is NotifyPolicy.SILENT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("runtime", "shell"),
        ("status", "paused"),
        ("scope_kind", "global"),
        ("delivery_status", "sent"),
        ("notify_policy", "all"),
        ("terminal_outcome", "fine"),
        ("started_at", 1.5),
        ("ended_at", "now"),
        ("last_event_at", True),
        ("label", 5),
        ("task", b"compile"),
        ("owner_key", 5),
        ("requester_session_key", "\udc00"),
    ],
)
def test_a_wrong_value_is_refused_and_named(field, value):
    with pytest.raises(UsageError, match=field) as caught:
        create(**({"status": Status.FAILED} | {field: value}))
    assert repr(value) in str(caught.value)


def test_a_clock_that_tells_no_whole_milliseconds_is_refused():
    with pytest.raises(UsageError, match="now must be a whole number"):
        create(now=NOW + 0.5)


def test_a_request_is_given_by_name_and_can_not_be_changed():
    with pytest.raises(TypeError):
        NewTask(Runtime.CLI, "compile")
    request = NewTask(runtime=Runtime.CLI, task="compile")
    with pytest.raises(AttributeError):
        request.task = "link"


# Created already running, or over.


def test_a_task_created_running_has_started():
    assert create(status=Status.RUNNING).started_at == NOW
    assert create(status=Status.RUNNING, started_at=9_000).started_at == 9_000


def test_a_start_before_the_creation_makes_that_the_creation():
    task = create(status=Status.RUNNING, started_at=NOW - 1)
    assert (task.created_at, task.started_at) == (NOW - 1, NOW - 1)


@pytest.mark.parametrize("status", TERMINAL_IN_ORDER)
def test_a_task_created_terminal_is_stamped_at_once(status):
    retention = DAY_MS if status == "lost" else 7 * DAY_MS
    task = create(status=status)
    assert (task.ended_at, task.last_event_at, task.cleanup_after) == (NOW, NOW, NOW + retention)
    task = create(status=status, started_at=7_000, ended_at=8_000)
    assert (task.ended_at, task.last_event_at, task.cleanup_after) == (8_000, 8_000, 8_000 + retention)
    task = create(status=status, started_at=7_000, ended_at=8_000, last_event_at=9_000)
    assert (task.ended_at, task.last_event_at, task.cleanup_after) == (8_000, 9_000, 8_000 + retention)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
@pytest.mark.parametrize(
    ("field", "value"),
    [("ended_at", 0), ("terminal_summary", "done"), ("terminal_outcome", TerminalOutcome.SUCCEEDED)],
)
def test_an_active_task_with_an_end_is_refused(status, field, value):
    with pytest.raises(UsageError, match=f"{field} can't be given for a task that is {status}") as caught:
        create(status=status, **{field: value})
    assert str(caught.value).endswith("have an end are succeeded, failed, timed_out, cancelled, lost")


moments = st.none() | st.integers(min_value=NOW - 3, max_value=NOW + 3)


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(Status), moments, moments, moments)
def test_a_new_task_has_its_times_in_order_and_its_stamps_by_status(status, started, ended, last):
    over = status in TERMINAL
    task = create(status=status, started_at=started, ended_at=ended if over else None, last_event_at=last)
    assert ordered(task) is task
    assert (task.ended_at is not None) == over
    assert task.cleanup_after == (cleanup_time(task) if over else None)


# The duplicate.


def test_a_create_without_a_run_id_matches_nothing():
    for run_id in (None, " "):
        task = replace(create(), run_id=run_id)
        assert find_match(task, [task]) is None


def test_a_create_with_the_run_id_of_an_existing_task_means_that_task():
    existing = create(run_id="run-1", child_session_key="c", parent_flow_id="f", label="l")
    wanted = create(task_id="task-2", run_id="run-1", child_session_key="c", parent_flow_id="f", label="l")
    assert find_match(wanted, [create(task_id="task-0"), existing]) is existing


@pytest.mark.parametrize("status", list(Status))
def test_a_match_does_not_depend_on_the_status(status):
    existing = create(run_id="run-1", status=status)
    assert find_match(create(run_id="run-1"), [existing]) is existing


@pytest.mark.parametrize(
    ("field", "another"),
    [
        ("run_id", "run-2"),
        ("runtime", Runtime.CRON),
        ("scope_kind", ScopeKind.SYSTEM),
        ("owner_key", "session-2"),
        ("child_session_key", "child-2"),
        ("parent_flow_id", "flow-2"),
        ("label", "label-2"),
        ("task", "link"),
    ],
)
def test_a_task_that_differs_in_one_matched_field_is_another_task(field, another):
    existing = create(run_id="run-1")
    assert find_match(replace(existing, **{field: another}), [existing]) is None
    assert find_match(existing, [replace(existing, **{field: another})]) is None


@pytest.mark.parametrize("field", ["run_id", "owner_key", "child_session_key", "parent_flow_id", "label", "task"])
def test_matched_fields_are_compared_trimmed(field):
    wanted = create(run_id="run-1", **({field: "same"} if field != "run_id" else {}))
    existing = replace(wanted, **{field: f" {getattr(wanted, field)}\n"})
    assert find_match(wanted, [existing]) is existing


@pytest.mark.parametrize("field", ["child_session_key", "parent_flow_id", "label"])
def test_blank_matched_fields_are_absent(field):
    wanted = create(run_id="run-1")
    existing = replace(wanted, **{field: "  "})
    assert find_match(wanted, [existing]) is existing


@pytest.mark.parametrize(("runtime", "matches"), [(runtime, runtime == "acp") for runtime in Runtime])
def test_for_acp_label_and_text_may_differ(runtime, matches):
    existing = create(runtime=runtime, run_id="run-1", label="one", task="first")
    wanted = create(runtime=runtime, run_id="run-1", label="two", task="second")
    assert find_match(wanted, [existing]) is (existing if matches else None)


def test_for_acp_an_exact_match_goes_before_an_older_one_that_is_worded_otherwise():
    older = create(runtime=Runtime.ACP, run_id="run-1", task="first", now=1_000)
    exact = create(runtime=Runtime.ACP, run_id="run-1", task="second")
    assert find_match(exact, [older, exact]) is exact


def test_of_several_matches_the_oldest_is_meant_and_of_equally_old_ones_the_first_inserted():
    first, second, third = (
        create(task_id=name, run_id="run-1", now=now) for name, now in (("a", 2), ("b", 1), ("c", 1))
    )
    assert find_match(create(run_id="run-1"), [first, second, third]) is second


@pytest.mark.parametrize("field", [name for name in KEY_FIELDS if name != "run_id"])
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_duplicate_create_fills_a_blank_field(field, blank):
    existing = replace(create(run_id="run-1"), **{field: blank})
    wanted = create(run_id="run-1", **{field: "known now"})
    assert merge(existing, wanted) == replace(existing, **{field: "known now"})


def test_a_duplicate_create_fills_a_blank_text():
    existing = create(runtime=Runtime.ACP, run_id="run-1", task=" ")
    assert merge(existing, create(runtime=Runtime.ACP, run_id="run-1", task="compile")).task == "compile"


@pytest.mark.parametrize("field", [*KEY_FIELDS, "task"])
def test_a_duplicate_create_changes_no_field_that_is_there(field):
    existing = create(**{field: "old"})
    assert merge(existing, replace(existing, **{field: "new"})) is existing


@pytest.mark.parametrize("before", list(NotifyPolicy))
@pytest.mark.parametrize("wanted", list(NotifyPolicy))
def test_notify_rises_only_from_silent(before, wanted):
    existing = create(run_id="run-1", notify_policy=before)
    merged = merge(existing, create(run_id="run-1", notify_policy=wanted))
    assert merged.notify_policy is (wanted if before is NotifyPolicy.SILENT else before)
    assert (merged is existing) == (merged.notify_policy is before)


def test_a_duplicate_create_reports_nothing_about_the_run():
    existing = create(run_id="run-1", status=Status.RUNNING)
    report = create(
        run_id="run-1",
        now=NOW + 5_000,
        status=Status.FAILED,
        started_at=1,
        error="boom",
        progress_summary="3 of 4",
        terminal_summary="gave up",
        terminal_outcome=TerminalOutcome.BLOCKED,
        delivery_status=DeliveryStatus.DELIVERED,
    )
    assert merge(existing, report) is existing


def test_a_duplicate_create_that_fills_something_also_puts_the_times_in_order():
    existing = replace(create(run_id="run-1"), started_at=NOW - 5)
    assert merge(existing, create(run_id="run-1", label="l")) == replace(existing, label="l", created_at=NOW - 5)


def test_the_same_create_again_has_nothing_to_write():
    existing = create(run_id="run-1", label="l")
    assert merge(existing, create(run_id="run-1", label="l", now=NOW + 1, task_id="task-2")) is existing


texts = st.sampled_from([None, "", "  ", "a", " b "])
described = st.builds(
    lambda fields, notify: replace(create(), notify_policy=notify, **fields),
    st.fixed_dictionaries(dict.fromkeys(KEY_FIELDS, texts)),
    st.sampled_from(NotifyPolicy),
)


@settings(derandomize=True, deadline=None)
@given(described, described)
def test_merging_twice_is_merging_once(existing, wanted):
    once = merge(existing, wanted)
    assert merge(once, wanted) is once


@settings(derandomize=True, deadline=None)
@given(described, described)
def test_a_merge_loses_nothing_that_was_there(existing, wanted):
    before, after = asdict(existing), asdict(merge(existing, wanted))
    changed = {name for name, value in before.items() if after[name] != value}
    assert all(name == "notify_policy" or not (before[name] or "").strip() for name in changed)
    assert all(after[name] == getattr(wanted, name) for name in changed)


# The delivery state beside it.


def test_an_origin_is_kept_where_none_was_known():
    wanted = DeliveryState("task-1", {"to": "a"})
    assert merge_delivery(None, "task-1", {"to": "a"}) == wanted
    notified = DeliveryState("task-1", None, 5)
    assert merge_delivery(notified, "task-1", {"to": "a"}) == DeliveryState("task-1", {"to": "a"}, 5)


def test_a_known_origin_stays_and_no_origin_changes_nothing():
    known = DeliveryState("task-1", {"to": "a"})
    assert merge_delivery(known, "task-1", {"to": "b"}) is known
    assert merge_delivery(known, "task-1", None) is known
    assert merge_delivery(None, "task-1", None) is None


def test_the_origin_is_a_copy_that_the_caller_can_not_reach():
    origin = {"to": ["a"]}
    kept = merge_delivery(None, "task-1", origin)
    origin["to"].append("b")
    assert kept.requester_origin == {"to": ["a"]}


def test_an_origin_without_a_json_form_is_refused():
    with pytest.raises(UsageError, match="requester_origin must be a JSON value"):
        merge_delivery(None, "task-1", {"to": object()})
