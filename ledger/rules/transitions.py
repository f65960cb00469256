"""The state changes of a task, each a function from the record before to the record after.

Queued → running → terminal, and queued → terminal. A terminal status is final, with one exception: `lost` is only an
inference, so the run that owns the task (the same run id) may still report its real end. A refused transition raises
`IllegalTransition`. Progress, the notify policy and the delivery status may change in any status.

Every result has its times in order (`ledger.rules.times`). Becoming terminal sets ended_at, last_event_at and
cleanup_after together, so no task is ever terminal without a date to prune it (openclaw issue 57439). Not covered:
permissions, and the choice of the row from which a change is computed.
"""

from typing import Final

from msgspec.structs import replace

from tornpage.ledger.errors import IllegalTransition, UsageError
from tornpage.ledger.records import TERMINAL, DeliveryStatus, NotifyPolicy, Status, Task, TerminalOutcome
from tornpage.ledger.rules.creation import outcome_of
from tornpage.ledger.rules.times import cleanup_time, ordered
from tornpage.ledger.rules.values import blank_to_none, collapsed, given_text, member, optional_time_ms, time_ms

_NEXT: Final[dict[Status, frozenset[Status]]] = {
    Status.QUEUED: TERMINAL | {Status.RUNNING},
    Status.RUNNING: TERMINAL,
}


def allowed_next(task: Task, run_id: str | None = None) -> frozenset[Status]:
    """The statuses to which a report from this run may change this task (None: from any caller)."""
    if task.status == Status.LOST and _owns(task, run_id):
        return TERMINAL - {Status.LOST}
    return _NEXT.get(task.status, frozenset())


def terminal_status(status: Status | str) -> Status:
    """The status, if a task can finish with it; raises UsageError with the allowed ones."""
    wanted = member("status", Status, status)
    if wanted not in TERMINAL:
        raise UsageError(f"to finish a task, status must be one of {_names(TERMINAL)}, not {wanted}")
    return wanted


def start(task: Task, now: int, started_at: int | None = None) -> Task:
    """The task as running; it started at the given time, else at the known one, else now.

    Times in milliseconds since the epoch. Raises IllegalTransition unless the task is queued; UsageError.
    """
    given = optional_time_ms("started_at", started_at)
    _check(task, Status.RUNNING, None)
    known = given if given is not None else task.started_at
    return ordered(
        replace(
            task,
            status=Status.RUNNING,
            started_at=now if known is None else known,
            last_event_at=time_ms("now", now),
        )
    )


def progress(task: Task, now: int, text: str) -> Task:
    """The task with this progress text (white space collapsed, blank = absent), in any status.

    Raises UsageError.
    """
    summary = collapsed("text", text)
    return ordered(replace(task, progress_summary=summary, last_event_at=time_ms("now", now)))


def finish(
    task: Task,
    now: int,
    status: Status,
    *,
    ended_at: int | None = None,
    error: str | None = None,
    terminal_summary: str | None = None,
    terminal_outcome: TerminalOutcome | None = None,
    run_id: str | None = None,
) -> Task:
    """The task as ended with a terminal status, at the given time, else now; that end is its last event.

    `run_id` is the reporting run; only the task's own run may replace `lost`, and then the error, summary and outcome
    of `lost` are removed. If none is given, the outcome is succeeded if the status is. Times in milliseconds since the
    epoch. Raises IllegalTransition; UsageError if the status isn't terminal or a value has the wrong type.
    """
    wanted = terminal_status(status)
    _check(task, wanted, run_id)
    given_end = optional_time_ms("ended_at", ended_at)
    end = time_ms("now", now) if given_end is None else given_end
    inferred = task.status == Status.LOST
    ended = ordered(
        replace(
            task,
            status=wanted,
            ended_at=end,
            last_event_at=end,
            error=given_text("error", error) or (None if inferred else task.error),
            terminal_summary=collapsed("terminal_summary", terminal_summary),
            terminal_outcome=outcome_of(wanted, terminal_outcome),
        )
    )
    return replace(ended, cleanup_after=cleanup_time(ended))


def with_notify_policy(task: Task, now: int, policy: NotifyPolicy) -> Task:
    """The task with this notify policy; setting it is an event, even if it is the same. Raises UsageError."""
    chosen = member("policy", NotifyPolicy, policy)
    return ordered(replace(task, notify_policy=chosen, last_event_at=time_ms("now", now)))


def with_delivery_status(task: Task, now: int, status: DeliveryStatus) -> Task:
    """The task with this delivery status; setting it is an event, even if it is the same. Raises UsageError."""
    chosen = member("status", DeliveryStatus, status)
    return ordered(replace(task, delivery_status=chosen, last_event_at=time_ms("now", now)))


def _owns(task: Task, run_id: str | None) -> bool:
    """Whether this is the run of the task; a blank run id never is."""
    run = blank_to_none(run_id)
    return run is not None and run == blank_to_none(task.run_id)


def _check(task: Task, wanted: Status, run_id: str | None) -> None:
    """Raise IllegalTransition, with from, to and the allowed statuses, unless the task may change to this status."""
    allowed = allowed_next(task, run_id)
    if wanted in allowed:
        return
    if allowed:
        advice = f"allowed from {task.status}: {_names(allowed)}"
    elif task.status == Status.LOST:
        advice = f"{task.status} is final, but for the real end reported by the run that owns it ({task.run_id!r})"
    else:
        advice = f"{task.status} is final"
    raise IllegalTransition(f"task {task.task_id} can't go from {task.status} to {wanted}: {advice}")


def _names(statuses: frozenset[Status]) -> str:
    """In the order in which the enumeration lists them."""
    return ", ".join(status for status in Status if status in statuses)
