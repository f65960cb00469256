"""Which tasks, runs and messages a query means, and their order (§2, indexes and lists)."""

from collections.abc import Iterable
from typing import Any

from tornpage.scenarios.targets.reference.model.state import Row, State
from tornpage.scenarios.targets.reference.model.values import (
    MESSAGE_STATUSES,
    RESULTS,
    RUNTIMES,
    STATUSES,
    Refusal,
    an_id,
    given,
    key_of,
    one_of_or_none,
    trimmed,
)
from tornpage.scenarios.targets.reference.model.world import World


def newest_first(tasks: Iterable[Row]) -> list[Row]:
    """§2: created_at descending, ties by newest insertion."""
    latest_insertion_first = [*tasks][::-1]
    return sorted(latest_insertion_first, key=lambda task: -task["created_at"])


def oldest_first(tasks: Iterable[Row]) -> list[Row]:
    """§2, look-up by run id: non-cli before cli, then oldest."""
    return sorted(tasks, key=lambda task: (task["runtime"] == "cli", task["created_at"]))


def of_run(state: State, run: str | None, session: str | None) -> list[Row]:
    """§2, by run id: a child-session match wins, else an owner match; without a key, only an unambiguous match."""
    tasks = [task for task in state.task.values() if run is not None and key_of(task["run_id"]) == run]
    if session is not None:
        children = [task for task in tasks if key_of(task["child_session_key"]) == session]
        return children or [task for task in tasks if key_of(task["owner_key"]) == session]
    parties = {
        (task["runtime"], task["scope_kind"], key_of(task["owner_key"]), key_of(task["child_session_key"]))
        for task in tasks
    }
    return tasks if len(parties) <= 1 else []


def _with(state: State, *names: str, value: str | None) -> list[Row]:
    """The tasks that have this key in one of these fields, newest first; none for a blank key."""
    if value is None:
        return []
    return newest_first(task for task in state.task.values() if any(key_of(task[name]) == value for name in names))


def tasks_get(_world: World, state: State, task_id: Any) -> Any:
    """A task by its id; refused where its row can't be read."""
    if an_id(task_id) in state.unreadable.get("tasks", ()):
        raise Refusal("Unreadable")
    return state.task.get(task_id)


def tasks_get_delivery(_world: World, state: State, task_id: Any) -> Any:
    """The delivery state of a task's notification; refused where its row, or the task's, can't be read."""
    if any(an_id(task_id) in state.unreadable.get(table, ()) for table in ("tasks", "task_delivery_state")):
        raise Refusal("Unreadable")
    return state.delivery.get(task_id)


def tasks_list(_world: World, state: State, *, runtime: Any = None, status: Any = None) -> Any:
    """All, newest first, of one runtime or status if given."""
    wanted = {"runtime": one_of_or_none(RUNTIMES, runtime), "status": one_of_or_none(STATUSES, status)}
    return newest_first(
        task
        for task in state.task.values()
        if all(value is None or task[name] == value for name, value in wanted.items())
    )


def tasks_list_for_owner(_world: World, state: State, owner_key: Any) -> Any:
    """By owner."""
    return _with(state, "owner_key", value=trimmed(owner_key))


def tasks_list_by_run(_world: World, state: State, run_id: Any) -> Any:
    """By run."""
    return _with(state, "run_id", value=trimmed(run_id))


def tasks_list_by_parent_flow(_world: World, state: State, parent_flow_id: Any) -> Any:
    """By parent flow."""
    return _with(state, "parent_flow_id", value=trimmed(parent_flow_id))


def tasks_list_for_session(_world: World, state: State, session_key: Any) -> Any:
    """By related session: owner or child."""
    return _with(state, "owner_key", "child_session_key", value=trimmed(session_key))


def tasks_find(_world: World, state: State, token: Any) -> Any:
    """§2, by token: task id, then run id, then the newest related session."""
    wanted = trimmed(token)
    if wanted is None:
        return None
    if wanted in state.task:
        return state.task[wanted]
    if wanted in state.unreadable.get("tasks", ()):
        # Not in the specification: it is that task's id, so it means no other one.
        raise Refusal("Unreadable")
    of_this_run = [task for task in state.task.values() if key_of(task["run_id"]) == wanted]
    found = oldest_first(of_this_run) or _with(state, "owner_key", "child_session_key", value=wanted)
    return found[0] if found else None


def tasks_quarantined(_world: World, state: State) -> Any:
    """§1: exactly the rows that can't be read."""
    return state.quarantined("tasks", "task_delivery_state")


def tasks_restore(_world: World, _state: State) -> None:
    """§2: reads the rows again, and changes nothing; not inside a batch that has changed something."""


def close(_world: World, _state: State) -> None:
    """Not in the specification: refused inside a batch, which goes on as if it had not been tried."""


def outbox_quarantined(_world: World, state: State) -> Any:
    """§1: exactly the rows that can't be read."""
    return state.quarantined("message_outbox")


def _newest_start_first(runs: Iterable[Row]) -> list[Row]:
    """Not in the specification: as tasks, by their start."""
    latest_insertion_first = [*runs][::-1]
    return sorted(latest_insertion_first, key=lambda run: -run["started_at"])


def history_get(_world: World, state: State, run_id: Any) -> Any:
    """A run by its id; refused where its row can't be read."""
    if an_id(run_id) in state.unreadable.get("task_history", ()):
        raise Refusal("Unreadable")
    return state.run.get(run_id)


def history_list(_world: World, state: State, *, status: Any = None, task_id: Any = None, worker_id: Any = None) -> Any:
    """The runs, newest start first."""
    wanted = {"status": one_of_or_none(("running", *RESULTS), status), "task_id": task_id, "worker_id": worker_id}
    given(task_id)
    given(worker_id)
    return _newest_start_first(
        run for run in state.run.values() if all(value is None or run[name] == value for name, value in wanted.items())
    )


def history_read(world: World, state: State, **wanted: Any) -> Any:
    """As the list, and the unreadable rows with it."""
    return [history_list(world, state, **wanted), state.quarantined("task_history")]


def history_find(world: World, state: State, token: Any) -> Any:
    """By token: a run id, else a task id, which means its newest run."""
    wanted = trimmed(token)
    if wanted is None:
        return None
    found, runs = history_get(world, state, wanted), history_list(world, state, task_id=wanted)
    return found if found is not None else runs[0] if runs else None


def history_running_workers(_world: World, state: State) -> Any:
    """The worker of each running task; of several the one that began first."""
    running = [run for run in state.run.values() if run["status"] == "running"]
    return {run["task_id"]: run["worker_id"] for run in _newest_start_first(running)}


def history_get_session(world: World, state: State, session_id: Any) -> Any:
    """A session by its id; refused where its row can't be read."""
    if an_id(session_id) in world.hidden:
        raise Refusal("Unreadable")
    return state.session.get(session_id)


def history_list_sessions(_world: World, state: State, run_id: Any = None) -> Any:
    """The sessions in the order of their opening."""
    given(run_id)
    return [one for one in state.session.values() if run_id is None or one["run_id"] == run_id]


def by_queue_time(messages: Iterable[Row]) -> list[Row]:
    """§5: by queued_at; ties by insertion."""
    return sorted(messages, key=lambda message: message["queued_at"])


def outbox_get(_world: World, state: State, message_id: Any) -> Any:
    """A message by its id; refused where its row can't be read."""
    if an_id(message_id) in state.unreadable.get("message_outbox", ()):
        raise Refusal("Unreadable")
    return state.message.get(message_id)


def outbox_read(world: World, state: State, **wanted: Any) -> Any:
    """As the list, and the rows that can't be read beside it."""
    return [outbox_list(world, state, **wanted), state.quarantined("message_outbox")]


def outbox_list(_world: World, state: State, *, status: Any = None, channel: Any = None) -> Any:
    """The messages in the order in which they were queued."""
    one_of_or_none(MESSAGE_STATUSES, status)
    wanted = an_id(channel).strip() if channel is not None else None
    return by_queue_time(
        one for one in state.message.values() if status in (None, one["status"]) and wanted in (None, one["channel"])
    )
