"""Makes a task record from a caller's request: defaults, normal forms, and the detection of duplicates.

`new_task` makes the record to create; `find_match` finds the existing task of the same run; `merge` fills its missing
fields. None of them does I/O. The rules are openclaw's (pull request 57361).

Text is trimmed and blank means absent, except `task` and `error`, which are kept as given: they may be a prompt or a
traceback, whose lines matter.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from tornpage.ledger.errors import UsageError
from tornpage.ledger.records import (
    TERMINAL,
    DeliveryState,
    DeliveryStatus,
    JsonValue,
    NotifyPolicy,
    Runtime,
    ScopeKind,
    Status,
    Task,
    TerminalOutcome,
)
from tornpage.ledger.rules.lookup import by_preference
from tornpage.ledger.rules.times import cleanup_time, ordered
from tornpage.ledger.rules.values import (
    blank_to_none,
    collapsed,
    given_text,
    json_value,
    member,
    optional_time_ms,
    time_ms,
    trimmed,
)


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's request for a new task; omitted fields get the defaults that `new_task` describes.

    Times are milliseconds since the epoch. `status` may be any: work that is already running or ended when it is first
    reported is recorded with that status.
    """

    runtime: Runtime
    task: str
    requester_session_key: str | None = None
    owner_key: str | None = None
    scope_kind: ScopeKind | None = None
    status: Status = Status.QUEUED
    delivery_status: DeliveryStatus | None = None
    notify_policy: NotifyPolicy | None = None
    task_kind: str | None = None
    source_id: str | None = None
    child_session_key: str | None = None
    parent_flow_id: str | None = None
    parent_task_id: str | None = None
    agent_id: str | None = None
    requester_agent_id: str | None = None
    run_id: str | None = None
    label: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    last_event_at: int | None = None
    error: str | None = None
    progress_summary: str | None = None
    terminal_summary: str | None = None
    terminal_outcome: TerminalOutcome | None = None


_KEY_FIELDS: Final = (
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
_TERMINAL_FIELDS: Final = ("ended_at", "terminal_summary", "terminal_outcome")
_FILLED_BY_MERGE: Final = (*_KEY_FIELDS, "task")


def new_task(request: NewTask, *, task_id: str, now: int) -> Task:
    """The record of a new task, with every default filled in and its times in order.

    Created running, it has started (as given, else now). Created terminal, it has ended (as given, else now), that
    end is its last event unless another is given, and cleanup_after is stamped. `now` in milliseconds since the
    epoch. Raises UsageError: a blank owner outside the system scope, a terminal field on a task that isn't over, a
    value of the wrong kind.
    """
    task = _essentials(request, task_id, time_ms("now", now))
    _refuse_terminal_fields(request, task.status)
    keys = {name: trimmed(name, key) for name in _KEY_FIELDS if (key := getattr(request, name)) is not None}
    task = ordered(
        replace(
            task,
            **keys,
            **_times(request, task.status, now),
            error=given_text("error", request.error),
            progress_summary=collapsed("progress_summary", request.progress_summary),
            terminal_summary=collapsed("terminal_summary", request.terminal_summary),
            terminal_outcome=outcome_of(task.status, request.terminal_outcome),
        )
    )
    return replace(task, cleanup_after=cleanup_time(task)) if task.status in TERMINAL else task


def default_delivery_status(scope: ScopeKind, owner_key: str) -> DeliveryStatus:
    """not_applicable for system, parent_missing with a blank owner, pending otherwise."""
    if scope == ScopeKind.SYSTEM:
        return DeliveryStatus.NOT_APPLICABLE
    return DeliveryStatus.PENDING if owner_key.strip() else DeliveryStatus.PARENT_MISSING


def default_notify_policy(delivery: DeliveryStatus) -> NotifyPolicy:
    """Silent if there is no requester to notify, done_only otherwise."""
    return NotifyPolicy.SILENT if delivery == DeliveryStatus.NOT_APPLICABLE else NotifyPolicy.DONE_ONLY


def outcome_of(status: Status, given: TerminalOutcome | None) -> TerminalOutcome | None:
    """The outcome as given, else succeeded where the status is succeeded, else None; raises UsageError."""
    if given is not None:
        return member("terminal_outcome", TerminalOutcome, given)
    return TerminalOutcome.SUCCEEDED if status == Status.SUCCEEDED else None


def find_match(request_task: Task, candidates: Iterable[Task]) -> Task | None:
    """The existing task that a create for the same run refers to, or None; `candidates` come in insertion order.

    A match has the same run id and the same runtime, scope, owner, child session, flow, label and task text (trimmed,
    blank = absent). For acp, label and text may differ, an exact match goes first. Of several, the oldest.
    """
    if blank_to_none(request_task.run_id) is None:
        return None
    place = _place(request_task)
    nearby = [task for task in candidates if _place(task) == place]
    wording = _wording(request_task)
    exact = [task for task in nearby if _wording(task) == wording]
    matches = exact or (nearby if request_task.runtime == Runtime.ACP else [])
    return next(iter(by_preference(matches)), None)


def merge(existing: Task, wanted: Task) -> Task:
    """The existing task with its blank descriptive fields filled; the same object if nothing changes.

    The notify policy is raised only from silent. Status, delivery, times, error and summaries stay: a second create
    describes the task and doesn't report on it.
    """
    patch: dict[str, str] = {
        name: value
        for name in _FILLED_BY_MERGE
        if blank_to_none(getattr(existing, name)) is None and blank_to_none(value := getattr(wanted, name)) is not None
    }
    if existing.notify_policy == NotifyPolicy.SILENT and wanted.notify_policy != NotifyPolicy.SILENT:
        patch["notify_policy"] = wanted.notify_policy
    return ordered(replace(existing, **patch)) if patch else existing


def merge_delivery(existing: DeliveryState | None, task_id: str, requester_origin: JsonValue) -> DeliveryState | None:
    """The delivery state after a create with this origin: filled only if it had none.

    The same object (or None) if nothing changes; the origin is a JSON value, copied. Raises UsageError.
    """
    origin = json_value("requester_origin", requester_origin)
    if origin is None or (existing is not None and existing.requester_origin is not None):
        return existing
    return replace(existing or DeliveryState(task_id), requester_origin=origin)


def _essentials(request: NewTask, task_id: str, now: int) -> Task:
    """The fields that every task has, created now."""
    owner_key, requester, scope = _parties(request)
    delivery = default_delivery_status(scope, owner_key)
    if request.delivery_status is not None:
        delivery = member("delivery_status", DeliveryStatus, request.delivery_status)
    notify = default_notify_policy(delivery)
    if request.notify_policy is not None:
        notify = member("notify_policy", NotifyPolicy, request.notify_policy)
    return Task(
        task_id=task_id,
        runtime=member("runtime", Runtime, request.runtime),
        requester_session_key=requester,
        owner_key=owner_key,
        scope_kind=scope,
        task=given_text("task", request.task) or "",
        status=member("status", Status, request.status),
        delivery_status=delivery,
        notify_policy=notify,
        created_at=now,
    )


def _refuse_terminal_fields(request: NewTask, status: Status) -> None:
    """Refuse an active task with an end: the audit would report it as inconsistent."""
    if status in TERMINAL:
        return
    given = [name for name in _TERMINAL_FIELDS if getattr(request, name) is not None]
    if given:
        raise UsageError(
            f"{', '.join(given)} can't be given for a task that is {status}; "
            f"the statuses that have an end are {', '.join(name for name in Status if name in TERMINAL)}"
        )


def _parties(request: NewTask) -> tuple[str, str, ScopeKind]:
    """Owner, requester and scope: owner = given or requester; requester = given, else the owner unless system."""
    given_scope = member("scope_kind", ScopeKind, request.scope_kind) if request.scope_kind is not None else None
    given_requester = trimmed("requester_session_key", request.requester_session_key)
    owner = trimmed("owner_key", request.owner_key) or given_requester or ""
    requester = given_requester or ("" if given_scope == ScopeKind.SYSTEM else owner)
    scope = given_scope or (ScopeKind.SESSION if requester else ScopeKind.SYSTEM)
    if not owner and scope != ScopeKind.SYSTEM:
        raise UsageError(
            f"a task of scope {scope} needs an owner: owner_key was {request.owner_key!r} and "
            f"requester_session_key {request.requester_session_key!r}; give one of them, or the scope system"
        )
    return owner, requester, scope


def _times(request: NewTask, status: Status, now: int) -> Mapping[str, int | None]:
    """started_at, ended_at and last_event_at of a new task, not yet in order."""
    started = optional_time_ms("started_at", request.started_at)
    ended = optional_time_ms("ended_at", request.ended_at)
    last = optional_time_ms("last_event_at", request.last_event_at)
    if started is None and status == Status.RUNNING:
        started = now
    if status in TERMINAL:
        ended = now if ended is None else ended
    if last is None:
        last = next(time for time in (ended, started, now) if time is not None)
    return {"started_at": started, "ended_at": ended, "last_event_at": last}


def _place(task: Task) -> tuple[str | None, ...]:
    """Whose run this is, and where it runs."""
    keys = (task.run_id, task.owner_key, task.child_session_key, task.parent_flow_id)
    return (task.runtime, task.scope_kind, *(blank_to_none(key) for key in keys))


def _wording(task: Task) -> tuple[str | None, str | None]:
    """How the task is described."""
    return blank_to_none(task.label), blank_to_none(task.task)
