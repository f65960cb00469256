"""The calls that drive the reference ledger: the workload of the sweep.

Between two steps the harness's clock advances by a minute, so that retries become due and work becomes stale.
"""

from typing import Any, Final

from tornpage.scenarios.model.target import Action

_WEEK_MS: Final = 7 * 24 * 3_600_000


def task_args(name: str, **more: Any) -> dict[str, Any]:
    """The arguments of a new task."""
    return {"id": name, "runtime": "cli", "requester_session_key": "main", "task": f"work {name}", **more}


def message_args(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a new message."""
    return {
        "message_id": name,
        "channel": "mail",
        "target": "you",
        "payload": payload,
        "idempotency_key": f"key-{name}",
    }


# The payloads that `deliver` in the session interprets.
ARRIVES: Final = {"text": "hello"}
FAILS: Final = {"text": "hello", "error": "connection reset"}
FAILS_FOR_GOOD: Final = {"text": "hello", "error": "chat not found"}

HEARTBEAT: Final = Action("tasks.create", task_args("heartbeat"))

_ACP: Final = {"runtime": "acp", "task": "second", "run_id": "run-b", "child_session_key": "child"}

TASKS: Final = (
    Action("tasks.create", task_args("a")),
    Action("tasks.create", task_args("b", requester_origin={"channel": "mail"}, **_ACP)),
    # The same run again: the existing task is found, and a blank field filled.
    Action("tasks.create", task_args("b2", label="found again", **_ACP)),
    Action("tasks.start", {"task_id": "a"}),
    Action("tasks.mark_running_by_run", {"run_id": "run-b"}),
    Action("tasks.progress", {"task_id": "a", "text": "half way"}),
    Action("tasks.set_notify_policy", {"task_id": "a", "policy": "state_changes"}),
    Action("tasks.set_delivery_state", {"task_id": "a", "last_notified_event_at": 5}),
    Action("tasks.finish", {"task_id": "a", "status": "succeeded", "terminal_summary": "done"}),
    Action("tasks.finalize_by_run", {"run_id": "run-b", "status": "failed", "error": "it broke"}),
    Action("tasks.set_delivery_status", {"task_id": "b", "status": "delivered"}),
    Action("batch", {"calls": [
        {"name": "tasks.create", "args": task_args("c", runtime="cron", scope_kind="system")},
        {"name": "tasks.start", "args": {"task_id": "c"}},
        {"name": "tasks.delete", "args": {"task_id": "a"}},
    ]}),
    Action("tasks.cancel", {"task_id": "c"}),
    Action("tasks.delete", {"task_id": "b"}),
)  # fmt: skip

HISTORY: Final = (
    Action("tasks.create", task_args("d")),
    Action("history.start", {"task_id": "d", "worker_id": "w-1", "run_id": "run-d", "model": "m"}),
    Action("history.open_session", {"run_id": "run-d", "session_id": "session-d"}),
    Action("history.finish", {"run_id": "run-d", "status": "success", "cost_usd": 0.5, "artifacts": ["x"]}),
    Action("batch", {"calls": [
        {"name": "tasks.create", "args": task_args("e")},
        {"name": "history.start", "args": {"task_id": "e", "worker_id": "w-2", "run_id": "run-e"}},
        {"name": "history.open_session", "args": {"run_id": "run-e", "session_id": "session-e"}},
    ]}),
    Action("recover"),
)  # fmt: skip

OUTBOX: Final = (
    # A task's end and the message that announces it, in one transaction.
    Action("batch", {"calls": [
        {"name": "tasks.create", "args": task_args("f")},
        {"name": "tasks.finish", "args": {"task_id": "f", "status": "succeeded"}},
        {"name": "outbox.enqueue", "args": message_args("m1", ARRIVES)},
    ]}),
    Action("outbox.enqueue", message_args("m2", FAILS)),
    Action("outbox.enqueue", message_args("m3", FAILS_FOR_GOOD)),
    Action("outbox.claim", {"message_id": "m1", "worker_id": "sender"}),
    Action("outbox.release", {"message_id": "m1", "worker_id": "sender"}),
    Action("outbox.fail", {"message_id": "m2", "error": "connection reset"}),
    Action("outbox.recover", {"cutoff": None}),
    Action("outbox.move_to_failed", {"message_id": "m2", "reason": "nobody reads it"}),
    Action("legacy_file", {"name": "old.json", "content": {"id": "old", "channel": "mail", "to": "you"}}),
    Action("outbox.import_legacy"),
    Action("outbox.ack", {"message_id": "old"}),
    Action("outbox.prune", {"age_ms": 1}),
)  # fmt: skip

UPKEEP: Final = (
    Action("maintenance", {"later_ms": 2 * _WEEK_MS}),
)  # fmt: skip

WORKLOAD: Final = (*TASKS, *HISTORY, *OUTBOX, *UPKEEP)
