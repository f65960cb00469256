"""The records and enumerations: names, order and values as the specification lists them."""

import gc
import json

import msgspec
import pytest

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

REQUIRED = (
    "task_id",
    "runtime",
    "requester_session_key",
    "owner_key",
    "scope_kind",
    "task",
    "status",
    "delivery_status",
    "notify_policy",
    "created_at",
)
OPTIONAL = (
    "task_kind",
    "source_id",
    "child_session_key",
    "parent_flow_id",
    "parent_task_id",
    "agent_id",
    "requester_agent_id",
    "run_id",
    "label",
    "started_at",
    "ended_at",
    "last_event_at",
    "cleanup_after",
    "error",
    "progress_summary",
    "terminal_summary",
    "terminal_outcome",
)


def a_task(**changes: object) -> Task:
    minimal = Task(
        task_id="task-1",
        runtime=Runtime.CLI,
        requester_session_key="session-1",
        owner_key="session-1",
        scope_kind=ScopeKind.SESSION,
        task="compile",
        status=Status.QUEUED,
        delivery_status=DeliveryStatus.PENDING,
        notify_policy=NotifyPolicy.DONE_ONLY,
        created_at=1_000,
    )
    return msgspec.structs.replace(minimal, **changes)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Runtime, "subagent acp cli cron"),
        (Status, "queued running succeeded failed timed_out cancelled lost"),
        (DeliveryStatus, "pending delivered session_queued failed parent_missing not_applicable"),
        (NotifyPolicy, "done_only state_changes silent"),
        (TerminalOutcome, "succeeded blocked"),
        (ScopeKind, "session system"),
    ],
)
def test_the_enumerations_have_exactly_the_specified_values(kind, values):
    assert [str(member) for member in kind] == values.split()


def test_every_status_but_queued_and_running_is_terminal():
    assert set(Status) - TERMINAL == {Status.QUEUED, Status.RUNNING}


def test_a_task_has_the_required_fields_first_and_then_the_optional_ones():
    assert Task.__struct_fields__ == REQUIRED + OPTIONAL


def test_the_optional_fields_are_absent_by_default():
    assert {getattr(a_task(), name) for name in OPTIONAL} == {None}


def test_the_required_fields_have_no_default():
    given = msgspec.structs.asdict(a_task())
    for name in REQUIRED:
        rest = {key: value for key, value in given.items() if key != name}
        with pytest.raises(TypeError, match=name):
            Task(**rest)


def test_a_delivery_state_has_the_specified_fields():
    assert DeliveryState.__struct_fields__ == ("task_id", "requester_origin", "last_notified_event_at")
    assert DeliveryState("task-1") == DeliveryState("task-1", None, None)


@pytest.mark.parametrize("record", [a_task(), DeliveryState("task-1")])
def test_a_record_can_not_be_changed_in_place(record):
    with pytest.raises(AttributeError):
        record.task_id = "another"


@pytest.mark.parametrize(
    "record",
    [
        a_task(status=Status.SUCCEEDED, ended_at=2_000, terminal_outcome=TerminalOutcome.BLOCKED, label="ü\0"),
        DeliveryState("task-1", {"to": ["a", 1, 1.5, True, None, {}]}, 3_000),
    ],
)
def test_a_record_comes_back_from_json_as_it_was(record):
    back = msgspec.json.decode(msgspec.json.encode(record), type=type(record))
    assert back == record
    assert [type(value) for value in msgspec.structs.astuple(back)] == [
        type(value) for value in msgspec.structs.astuple(record)
    ]


def test_json_with_an_unknown_field_is_refused_rather_than_losing_it():
    text = json.dumps({"task_id": "task-1", "written_by_a_later_version": 1})
    with pytest.raises(msgspec.ValidationError, match="written_by_a_later_version"):
        msgspec.json.decode(text, type=DeliveryState)


def test_json_with_an_unknown_enumeration_value_is_refused():
    given = msgspec.to_builtins(a_task()) | {"status": "paused"}
    with pytest.raises(msgspec.ValidationError, match="paused"):
        msgspec.convert(given, type=Task)


def test_tasks_cost_the_garbage_collector_nothing_and_deliveries_are_watched_for_cycles():
    assert not gc.is_tracked(a_task())
    assert gc.is_tracked(DeliveryState("task-1", {"to": "a"}))
