"""Tasks (§2): creating, changing, ending and deleting them, by id and by run."""

from collections.abc import Callable
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.lookups import of_run, oldest_first
from tornpage.scenarios.targets.reference.model.state import Outcome, Row, State, joined, with_task, without_task
from tornpage.scenarios.targets.reference.model.values import (
    ACTIVE,
    DELIVERY_STATUSES,
    NOTIFY_POLICIES,
    OUTCOMES,
    RUNTIMES,
    SCOPES,
    STATUSES,
    TERMINAL,
    Refusal,
    Text,
    a_time,
    an_id,
    collapsed,
    given,
    json_value,
    key_of,
    one_of,
    one_of_or_none,
    the_time,
    trimmed,
)
from tornpage.scenarios.targets.reference.model.world import World

_DAY_MS: Final = 24 * 3_600_000
_KEYS: Final = (
    "task_kind", "source_id", "child_session_key", "parent_flow_id", "parent_task_id", "agent_id",
    "requester_agent_id", "run_id", "label",
)  # fmt: skip
_END: Final = ("ended_at", "terminal_summary", "terminal_outcome")
_GIVEN: Final = frozenset({
    "runtime", "task", "requester_session_key", "owner_key", "scope_kind", "status", "delivery_status", "notify_policy",
    "started_at", "last_event_at", "error", "progress_summary", *_END, *_KEYS,
})  # fmt: skip


# -- times -----------------------------------------------------------------------------------------------------


def in_order(task: Row) -> Row:
    """§2: created_at = the earliest of all; started_at ≥ created_at; the others ≥ started_at or created_at."""
    names = ("created_at", "started_at", "ended_at", "last_event_at")
    created = min(task[name] for name in names if task[name] is not None)
    floor = created if task["started_at"] is None else task["started_at"]
    later = {name: max(task[name], floor) for name in ("ended_at", "last_event_at") if task[name] is not None}
    return {**task, "created_at": created, **later}


def cleanup_time(task: Row) -> int:
    """§2: (ended_at, else last_event_at, else created_at) + 7 days; for lost + 24 hours."""
    base = next(task[name] for name in ("ended_at", "last_event_at", "created_at") if task[name] is not None)
    return int(base) + (_DAY_MS if task["status"] == "lost" else 7 * _DAY_MS)


# -- creating --------------------------------------------------------------------------------------------------


def create(world: World, state: State, /, *, requester_origin: Any = None, **fields: Any) -> Outcome:
    """§2, create: a new task, or the existing one of the same run, with its blank fields filled."""
    made, origin = _new_task(world, fields), json_value(requester_origin)
    existing = _match(state, made)
    taken = {*state.task, *state.unreadable.get("tasks", ())}
    if existing is None and made["task_id"] in taken:
        raise Refusal("UsageError")
    if existing is None and made["run_id"] is not None and made["run_id"] in world.unreadable_runs.values():
        # Not in the specification: nothing tells whether it is the same task.
        raise Refusal("Unreadable")
    task = made if existing is None else _filled(existing, made)
    outcome = with_task(state, task, previous=existing)
    name = task["task_id"]
    known = _state_of(state, name) if existing is not None and origin is not None else None
    if origin is None or (known is not None and known["requester_origin"] is not None):
        return outcome
    row = {"task_id": name, "last_notified_event_at": None, **(known or {}), "requester_origin": origin}
    return Outcome(outcome.state.put("delivery", name, row), task, outcome.heard)


def _new_task(world: World, fields: dict[str, Any]) -> Row:
    if not fields.keys() <= _GIVEN or not fields.keys() >= {"runtime", "task"}:
        raise Refusal("UsageError")
    owner, requester, scope = _parties(fields)
    default = "not_applicable" if scope == "system" else "pending" if owner else "parent_missing"
    delivery = one_of_or_none(DELIVERY_STATUSES, fields.get("delivery_status")) or default
    silent_or_not = "silent" if delivery == "not_applicable" else "done_only"
    notify = one_of_or_none(NOTIFY_POLICIES, fields.get("notify_policy")) or silent_or_not
    status = one_of(STATUSES, fields.get("status", "queued"))
    if status in ACTIVE and any(fields.get(name) is not None for name in _END):
        # Not in the specification: an active task with an end would be a finding of the audit.
        raise Refusal("UsageError")
    outcome = one_of_or_none(OUTCOMES, fields.get("terminal_outcome"))
    task = in_order({
        "task_id": an_id(world.new_id),
        "runtime": one_of(RUNTIMES, fields["runtime"]),
        "requester_session_key": requester,
        "owner_key": owner,
        "scope_kind": scope,
        "task": given(fields["task"]) or "",
        "status": status,
        "delivery_status": delivery,
        "notify_policy": notify,
        "created_at": the_time(world.now_ms),
        **{name: trimmed(fields.get(name)) for name in _KEYS},
        **_times(world, fields, status),
        "error": given(fields.get("error")),
        "progress_summary": collapsed(fields.get("progress_summary")),
        "terminal_summary": collapsed(fields.get("terminal_summary")),
        "terminal_outcome": outcome or ("succeeded" if status == "succeeded" else None),
        "cleanup_after": None,
    })  # fmt: skip
    return {**task, "cleanup_after": cleanup_time(task)} if status in TERMINAL else task


def _parties(fields: dict[str, Any]) -> tuple[str, str, str]:
    """§2: owner = given or requester, blank only in the system scope; requester and scope by default."""
    scope = one_of_or_none(SCOPES, fields.get("scope_kind"))
    given_requester = trimmed(fields.get("requester_session_key"))
    owner = trimmed(fields.get("owner_key")) or given_requester or ""
    requester = given_requester or ("" if scope == "system" else owner)
    scope = scope or ("session" if requester else "system")
    if not owner and scope != "system":
        raise Refusal("UsageError")
    return owner, requester, scope


def _times(world: World, fields: dict[str, Any], status: str) -> dict[str, int | None]:
    """§2: last_event_at = given, else started_at, else now; a task created running or ended has begun or ended now."""
    started, ended, last = (a_time(fields.get(name)) for name in ("started_at", "ended_at", "last_event_at"))
    if started is None and status == "running":
        started = world.now_ms
    if ended is None and status in TERMINAL:
        ended = world.now_ms
    if last is None:
        # Becoming terminal stamps it (§2, transitions), also at once.
        last = next(time for time in (ended, started, world.now_ms) if time is not None)
    return {"started_at": started, "ended_at": ended, "last_event_at": last}


def _match(state: State, made: Row) -> Row | None:
    """§2: the same run, runtime, scope, owner, child session, flow, label and text; for acp the last two may differ."""
    if made["run_id"] is None:
        return None
    place = ("runtime", "scope_kind", "run_id", "owner_key", "child_session_key", "parent_flow_id")
    near = [task for task in state.task.values() if all(key_of(task[one]) == key_of(made[one]) for one in place)]
    exact = [task for task in near if all(key_of(task[one]) == key_of(made[one]) for one in ("label", "task"))]
    found = exact or (near if made["runtime"] == "acp" else [])
    return oldest_first(found)[0] if found else None


def _filled(existing: Row, made: Row) -> Row:
    """§2: blank fields are filled, notify rises only from silent."""
    patch = {
        name: made[name]
        for name in (*_KEYS, "task")
        if key_of(existing[name]) is None and key_of(made[name]) is not None
    }
    if existing["notify_policy"] == "silent" and made["notify_policy"] != "silent":
        patch["notify_policy"] = made["notify_policy"]
    return in_order({**existing, **patch}) if patch else existing


# -- one task --------------------------------------------------------------------------------------------------


def existing(state: State, task_id: Any) -> Row:
    """The task of this id; refused if there is none, or (§1) if its row is unreadable."""
    row = state.task.get(an_id(task_id))
    if row is None:
        raise Refusal("Unreadable" if task_id in state.unreadable.get("tasks", ()) else "NotFound")
    return row


def may_become(task: Row, status: str, run_id: str | None = None) -> bool:
    """§2, transitions: queued → running → terminal; `lost` yields only to the run that owns the task."""
    if task["status"] == "lost":
        run = key_of(run_id)
        return status in TERMINAL and status != "lost" and run is not None and run == key_of(task["run_id"])
    return (task["status"] == "queued" and status == "running") or (task["status"] in ACTIVE and status in TERMINAL)


def started(task: Row, now_ms: int, started_at: int | None) -> Row:
    """§2: running, since the given time, else the known one, else now."""
    if not may_become(task, "running"):
        raise Refusal("IllegalTransition")
    since = next(time for time in (started_at, task["started_at"], now_ms) if time is not None)
    return in_order({**task, "status": "running", "started_at": since, "last_event_at": the_time(now_ms)})


def ended(task: Row, now_ms: int, status: str, run_id: str | None = None, **report: Any) -> Row:
    """§2: becoming terminal stamps ended_at, last_event_at and cleanup_after in the same write."""
    if not may_become(task, status, run_id):
        raise Refusal("IllegalTransition")
    at = report.get("ended_at")
    at = the_time(now_ms) if at is None else at
    outcome = report.get("terminal_outcome") or ("succeeded" if status == "succeeded" else None)
    over = in_order({
        **task,
        "status": status,
        "ended_at": at,
        "last_event_at": at,
        # A field set with `lost` was an inference, and is removed with it.
        "error": report.get("error") or (None if task["status"] == "lost" else task["error"]),
        "terminal_summary": report.get("terminal_summary"),
        "terminal_outcome": outcome,
    })  # fmt: skip
    return {**over, "cleanup_after": cleanup_time(over)}


def touched(task: Row, now_ms: int, **patch: Any) -> Row:
    """A task after an event that is not a transition."""
    return in_order({**task, **patch, "last_event_at": the_time(now_ms)})


def start(world: World, state: State, task_id: Any, *, started_at: Any = None) -> Outcome:
    """§2: queued → running."""
    task = existing(state, task_id)
    return with_task(state, started(task, world.now_ms, a_time(started_at)), previous=task)


def progress(world: World, state: State, task_id: Any, text: Any) -> Outcome:
    """§2: progress text may be added to a terminal task, too."""
    task = existing(state, task_id)
    return with_task(state, touched(task, world.now_ms, progress_summary=collapsed(text)), previous=task)


def checked_report(**report: Any) -> dict[str, Any]:
    """The report of a task's end, in its stored form."""
    return {
        "ended_at": a_time(report.get("ended_at")),
        "error": given(report.get("error")),
        "terminal_summary": collapsed(report.get("terminal_summary")),
        "terminal_outcome": one_of_or_none(OUTCOMES, report.get("terminal_outcome")),
    }


def finish(world: World, state: State, task_id: Any, status: Any, *, run_id: Any = None, **report: Any) -> Outcome:
    """§2: active → terminal; lost → its real end by the run that owns the task."""
    wanted, run = one_of(TERMINAL, one_of(STATUSES, status)), given(run_id)
    outcome = one_of_or_none(OUTCOMES, report.get("terminal_outcome"))
    task = existing(state, task_id)
    if not may_become(task, wanted, run):
        raise Refusal("IllegalTransition")
    checked = checked_report(**{**report, "terminal_outcome": outcome})
    return with_task(state, ended(task, world.now_ms, wanted, run, **checked), previous=task)


def set_notify_policy(world: World, state: State, task_id: Any, policy: Any) -> Outcome:
    """§2: it also touches last_event_at."""
    chosen = one_of(NOTIFY_POLICIES, policy)
    task = existing(state, task_id)
    return with_task(state, touched(task, world.now_ms, notify_policy=chosen), previous=task)


def set_delivery_status(world: World, state: State, task_id: Any, status: Any) -> Outcome:
    """Not in the specification: an event like the notify policy's."""
    chosen = one_of(DELIVERY_STATUSES, status)
    task = existing(state, task_id)
    return with_task(state, touched(task, world.now_ms, delivery_status=chosen), previous=task)


def _state_of(state: State, task_id: str) -> Row | None:
    """The delivery state of a task, for a change of it; refused if (§1) its row is unreadable."""
    if task_id in state.unreadable.get("task_delivery_state", ()):
        raise Refusal("Unreadable")
    return state.delivery.get(task_id)


def set_delivery_state(_world: World, state: State, task_id: Any, **patch: Any) -> Outcome:
    """§2: the delivery state, beside the task: omitted fields stay; no observer is notified."""
    an_id(task_id)
    if "requester_origin" in patch:
        patch["requester_origin"] = json_value(patch["requester_origin"])
    if "last_notified_event_at" in patch:
        patch["last_notified_event_at"] = a_time(patch["last_notified_event_at"])
    existing(state, task_id)
    known = _state_of(state, task_id)
    empty = {"task_id": task_id, "requester_origin": None, "last_notified_event_at": None}
    row = {**(known or empty), **patch}
    return Outcome(state.put("delivery", task_id, row), row)


def delete(_world: World, state: State, task_id: Any) -> Outcome:
    """§2: removes the task and its delivery state."""
    existing(state, task_id)
    return without_task(state, task_id)


def cancel(world: World, state: State, task_id: Any) -> Outcome:
    """§2: calls the control hook first (cli: record only); the result says found, cancelled, reason, task."""
    task = state.task.get(an_id(task_id))
    if task_id in state.unreadable.get("tasks", ()):
        raise Refusal("Unreadable")
    if task is None:
        return Outcome(state, _cancelled(None, found=False))
    agrees = task["runtime"] == "cli" or world.controls.get(task["runtime"]) == "agrees"
    if not agrees:
        return Outcome(state, _cancelled(task))
    if task["status"] in TERMINAL:
        return Outcome(state, _cancelled(task, task["status"]))
    outcome = finish(world, state, task_id, "cancelled")
    answer = {"found": True, "cancelled": True, "reason": None, "task": outcome.answer}
    return Outcome(outcome.state, answer, outcome.heard)


def _cancelled(task: Row | None, *because: str, found: bool = True) -> dict[str, Any]:
    return {"found": found, "cancelled": False, "reason": Text(*because), "task": task}


# -- the tasks of a run ----------------------------------------------------------------------------------------


def _each(state: State, run_id: Any, session_key: Any, rule: Callable[[Row], Row]) -> Outcome:
    """§2, by run id: apply a rule to the tasks that a run means; the answer is the changed ones."""
    run, key = trimmed(run_id), trimmed(session_key)
    outcomes: list[Outcome] = []
    for task in of_run(state, run, key):
        changed = with_task(outcomes[-1].state if outcomes else state, rule(task), previous=task)
        outcomes += [changed] if changed.heard else []
    return joined(outcomes, state, [one.answer for one in outcomes])


def mark_running_by_run(
    world: World, state: State, run_id: Any, *, session_key: Any = None, started_at: Any = None
) -> Outcome:
    """§2: the queued ones of them start; the others stay."""

    def rule(task: Row) -> Row:
        return started(task, world.now_ms, a_time(started_at)) if may_become(task, "running") else task

    return _each(state, run_id, session_key, rule)


def progress_by_run(world: World, state: State, run_id: Any, text: Any, *, session_key: Any = None) -> Outcome:
    """§2: progress on them, in any status."""
    return _each(state, run_id, session_key, lambda task: touched(task, world.now_ms, progress_summary=collapsed(text)))


def finalize_by_run(
    world: World, state: State, run_id: Any, status: Any, *, session_key: Any = None, **report: Any
) -> Outcome:
    """§2: they end, lost ones too, since their own run reports it; others that have ended stay."""
    wanted = one_of(TERMINAL, one_of(STATUSES, status))
    given(run_id)
    one_of_or_none(OUTCOMES, report.get("terminal_outcome"))

    def rule(task: Row) -> Row:
        if task["status"] in TERMINAL and not may_become(task, wanted, run_id):
            return task
        return ended(task, world.now_ms, wanted, run_id, **checked_report(**report))

    return _each(state, run_id, session_key, rule)
