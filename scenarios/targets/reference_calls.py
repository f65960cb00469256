"""The calls that the reference ledger is driven by: the workload of the sweep, and what a machine may draw.

Between two steps the harness's clock moves on by a minute, so retries fall due and work grows stale by itself.
"""

from itertools import count
from typing import Any, Final

from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from scenarios.target import Action, View

_WEEK_MS: Final = 7 * 24 * 3_600_000


def _task(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "runtime": "cli", "requester_session_key": "main", "task": f"work {name}", **more}


def _message(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "message_id": name,
        "channel": "mail",
        "target": "you",
        "payload": payload,
        "idempotency_key": f"key-{name}",
    }


# What `deliver` in the session makes of a payload.
ARRIVES: Final = {"text": "hello"}
FAILS: Final = {"text": "hello", "error": "connection reset"}
FAILS_FOR_GOOD: Final = {"text": "hello", "error": "chat not found"}

HEARTBEAT: Final = Action("tasks.create", _task("heartbeat"))

_ACP: Final = {"runtime": "acp", "task": "second", "run_id": "run-b", "child_session_key": "child"}

TASKS: Final = (
    Action("tasks.create", _task("a")),
    Action("tasks.create", _task("b", requester_origin={"channel": "mail"}, **_ACP)),
    # The same run again: the task that is there is found, and a blank field filled.
    Action("tasks.create", _task("b2", label="found again", **_ACP)),
    Action("tasks.start", {"task_id": "a"}),
    Action("tasks.mark_running_by_run", {"run_id": "run-b"}),
    Action("tasks.progress", {"task_id": "a", "text": "half way"}),
    Action("tasks.set_notify_policy", {"task_id": "a", "policy": "state_changes"}),
    Action("tasks.set_delivery_state", {"task_id": "a", "last_notified_event_at": 5}),
    Action("tasks.finish", {"task_id": "a", "status": "succeeded", "terminal_summary": "done"}),
    Action("tasks.finalize_by_run", {"run_id": "run-b", "status": "failed", "error": "it broke"}),
    Action("tasks.set_delivery_status", {"task_id": "b", "status": "delivered"}),
    Action("batch", {"calls": [
        {"name": "tasks.create", "args": _task("c", runtime="cron", scope_kind="system")},
        {"name": "tasks.start", "args": {"task_id": "c"}},
        {"name": "tasks.delete", "args": {"task_id": "a"}},
    ]}),
    Action("tasks.cancel", {"task_id": "c"}),
    Action("tasks.delete", {"task_id": "b"}),
)  # fmt: skip

HISTORY: Final = (
    Action("tasks.create", _task("d")),
    Action("history.start", {"task_id": "d", "worker_id": "w-1", "run_id": "run-d", "model": "m"}),
    Action("history.open_session", {"run_id": "run-d", "session_id": "session-d"}),
    Action("history.finish", {"run_id": "run-d", "status": "success", "cost_usd": 0.5, "artifacts": ["x"]}),
    Action("batch", {"calls": [
        {"name": "tasks.create", "args": _task("e")},
        {"name": "history.start", "args": {"task_id": "e", "worker_id": "w-2", "run_id": "run-e"}},
        {"name": "history.open_session", "args": {"run_id": "run-e", "session_id": "session-e"}},
    ]}),
    Action("recover"),
)  # fmt: skip

OUTBOX: Final = (
    # A task's end and the message that announces it, in one transaction.
    Action("batch", {"calls": [
        {"name": "tasks.create", "args": _task("f")},
        {"name": "tasks.finish", "args": {"task_id": "f", "status": "succeeded"}},
        {"name": "outbox.enqueue", "args": _message("m1", ARRIVES)},
    ]}),
    Action("outbox.enqueue", _message("m2", FAILS)),
    Action("outbox.enqueue", _message("m3", FAILS_FOR_GOOD)),
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

_TASK_CHANGES: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("tasks.delete", {}),
    ("tasks.start", {}),
    ("tasks.progress", {"text": "half way"}),
    ("tasks.finish", {"status": "succeeded"}),
    ("tasks.finish", {"status": "failed", "error": "it broke"}),
    ("tasks.cancel", {}),
    ("tasks.set_notify_policy", {"policy": "silent"}),
    ("tasks.set_delivery_status", {"status": "delivered"}),
    ("tasks.set_delivery_state", {"last_notified_event_at": 7}),
)
_RUN_ENDS: Final = ("success", "failure", "cancelled", "aborted_no_skill")
_MESSAGE_CHANGES: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("outbox.ack", {}),
    ("outbox.fail", {"error": "connection reset"}),
    ("outbox.fail", {"error": "chat not found"}),
    ("outbox.move_to_failed", {}),
    ("outbox.claim", {"worker_id": "sender"}),
    ("outbox.release", {"worker_id": "sender"}),
)
_WHOLE: Final = (
    Action("recover"),
    Action("outbox.recover", {"cutoff": None}),
    Action("outbox.prune", {"age_ms": 120_000}),
    Action("maintenance"),
    Action("maintenance", {"later_ms": 2 * _WEEK_MS}),
)


def draw(view: View) -> SearchStrategy[Action]:
    """A call that makes sense in this state; some are refused, and that is right."""
    tasks, runs, messages = (_ids(view, prefix) for prefix in ("task", "run", "message"))
    kinds = [_new_task(tasks)]
    if tasks:
        kinds += [_change(_TASK_CHANGES, "task_id", tasks), _new_run(tasks, runs)]
    if runs:
        kinds.append(
            strategies.builds(
                lambda run, status: Action("history.finish", {"run_id": run, "status": status}),
                strategies.sampled_from(runs),
                strategies.sampled_from(_RUN_ENDS),
            )
        )
    kinds.append(_new_message(messages))
    if messages:
        kinds.append(_change(_MESSAGE_CHANGES, "message_id", messages))
    kinds.append(strategies.sampled_from(_WHOLE))
    return strategies.one_of(kinds)


def _ids(view: View, prefix: str) -> list[str]:
    return sorted(key.partition("/")[2] for key in view if key.startswith(prefix + "/"))


def _unused(letter: str, taken: list[str]) -> str:
    return next(name for number in count() if (name := f"{letter}{number}") not in taken)


def _new_task(tasks: list[str]) -> SearchStrategy[Action]:
    return strategies.builds(
        lambda runtime, run: Action("tasks.create", _task(_unused("t", tasks), **{"runtime": runtime, **run})),
        strategies.sampled_from(["cli", "acp", "subagent"]),
        strategies.sampled_from([{}, {"run_id": "run-1"}, {"run_id": "run-2"}]),
    )


def _new_run(tasks: list[str], runs: list[str]) -> SearchStrategy[Action]:
    run = _unused("r", runs)
    return strategies.builds(
        lambda task: Action("history.start", {"task_id": task, "worker_id": f"w-{run}", "run_id": run}),
        strategies.sampled_from(tasks),
    )


def _new_message(messages: list[str]) -> SearchStrategy[Action]:
    return strategies.builds(
        lambda payload: Action("outbox.enqueue", _message(_unused("m", messages), payload)),
        strategies.sampled_from([ARRIVES, FAILS, FAILS_FOR_GOOD]),
    )


def _change(changes: tuple[tuple[str, dict[str, Any]], ...], key: str, ids: list[str]) -> SearchStrategy[Action]:
    return strategies.builds(
        lambda change, one: Action(change[0], {key: one, **change[1]}),
        strategies.sampled_from(changes),
        strategies.sampled_from(ids),
    )
