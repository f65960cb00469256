"""Runs and their sessions: the records, their rows, and the effects of a run's start and end on them.

A run is one attempt of a worker at a task. Its history row is written at the START, and the end updates the same row
(claude-hooks issue 1107: with a row written only at the end, a run that dies leaves no record). The functions here
compute the new record from the old one; they do no I/O.

How the end of a run ends its task:

================  ==========  ============================================================
run               task        the task's error
================  ==========  ============================================================
success           succeeded   the reason, where one is given
failure           failed      the reason, where one is given
cancelled         cancelled   the reason, where one is given
interrupted       lost        the reason, else that it was interrupted
aborted_no_skill  failed      ``aborted_no_skill``, followed by the reason where one is given
================  ==========  ============================================================

A task that has ended otherwise meanwhile keeps its end; only `lost` is replaced by the report of its own run.
"""

import sys
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tornpage.ledger import rules
from tornpage.ledger.disk.rows import RecordTable
from tornpage.ledger.errors import IllegalTransition, UsageError
from tornpage.ledger.records import JsonValue, Status, Task, TimeMs
from tornpage.ledger.rules.values import (
    blank_to_none,
    canonical,
    given_text,
    json_value,
    member,
    optional_time_ms,
    time_ms,
    trimmed,
)

_LARGEST_INTEGER: Final = 2**63 - 1
_TEXT_FIELDS: Final = ("repo", "user", "agent", "agent_type", "model", "provider")
_COUNT_FIELDS: Final = ("tokens_in", "tokens_out", "turns")


class RunStatus(StrEnum):
    """The state of a run: running, then one of the others, which are final."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    ABORTED_NO_SKILL = "aborted_no_skill"


_TASK_STATUS: Final[dict[RunStatus, Status]] = {
    RunStatus.SUCCESS: Status.SUCCEEDED,
    RunStatus.FAILURE: Status.FAILED,
    RunStatus.CANCELLED: Status.CANCELLED,
    RunStatus.INTERRUPTED: Status.LOST,
    RunStatus.ABORTED_NO_SKILL: Status.FAILED,
}
RESULTS: Final = tuple(_TASK_STATUS)
"""The statuses that end a run."""


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the run history. Times in milliseconds since the epoch, the cost in US dollars.

    Fields that are known only at the end are None until then; `artifacts` is any JSON value.
    """

    id: str
    task_id: str
    worker_id: str
    status: RunStatus
    started_at: TimeMs
    repo: str | None = None
    issue_number: int | None = None
    user: str | None = None
    agent: str | None = None
    agent_type: str | None = None
    model: str | None = None
    provider: str | None = None
    finished_at: TimeMs | None = None
    cost_usd: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    turns: int | None = None
    artifacts: JsonValue = None
    reason: str | None = None


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An agent's session, which belongs to one run; once invalid it stays invalid, with the time and the reason."""

    session_id: str
    run_id: str
    valid: bool = True
    invalidated_at: TimeMs | None = None
    reason: str | None = None


RUNS: Final = RecordTable("task_history", Run, "id", json_columns=("artifacts",))
SESSIONS: Final = RecordTable("agent_sessions", Session, "session_id", bool_columns=("valid",))


class RunStart(msgspec.Struct, frozen=True):
    """The caller's facts of a run at its start; see `Run`."""

    repo: str | None = None
    issue_number: int | None = None
    user: str | None = None
    agent: str | None = None
    agent_type: str | None = None
    model: str | None = None
    provider: str | None = None


class RunEnd(msgspec.Struct, frozen=True):
    """The caller's facts of a run at its end; None if not given."""

    finished_at: int | None = None
    cost_usd: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    turns: int | None = None
    artifacts: JsonValue = None
    reason: str | None = None


def checked_start(start: RunStart) -> RunStart:
    """The facts of the start, with blank text as None. Raises `UsageError`."""
    texts: dict[str, Any] = {name: given_text(name, getattr(start, name)) for name in _TEXT_FIELDS}
    return replace(start, issue_number=_count("issue_number", start.issue_number), **texts)


def checked_end(end: RunEnd) -> RunEnd:
    """The facts of the end, in their stored form. Raises `UsageError`."""
    counts: dict[str, Any] = {name: _count(name, getattr(end, name)) for name in _COUNT_FIELDS}
    return RunEnd(
        finished_at=optional_time_ms("finished_at", end.finished_at),
        cost_usd=_cost(end.cost_usd),
        artifacts=json_value("artifacts", end.artifacts),
        reason=given_text("reason", end.reason),
        **counts,
    )


def checked_result(status: RunStatus | str) -> RunStatus:
    """The status, if it can end a run. Raises `UsageError`."""
    wanted = member("status", RunStatus, status)
    if wanted is RunStatus.RUNNING:
        raise UsageError(f"to finish a run, status must be one of {', '.join(RESULTS)}, not {wanted}")
    return wanted


def started(run_id: str, task_id: str, worker_id: str, started_at: int, start: RunStart) -> Run:
    """The run at its start; its time and `start` must be checked already."""
    said = msgspec.structs.asdict(start)
    return Run(run_id, task_id, worker_id, RunStatus.RUNNING, started_at, **said)


def finished(run: Run, now: int, status: RunStatus, end: RunEnd) -> Run:
    """The run at its end, at the given time, else now, but never before its start.

    A run that has ended stays unchanged: the same result again (also with fewer facts) returns it, another result
    raises `IllegalTransition`. `end` must be checked already.
    """
    if run.status is not RunStatus.RUNNING:
        _refuse_other_result(run, status, end)
        return run
    said = msgspec.structs.asdict(end)
    finished_at = said.pop("finished_at")
    # Checked also if it isn't this run's end: its sessions become invalid now.
    now = time_ms("now", now)
    at = now if finished_at is None else finished_at
    return replace(run, status=status, finished_at=max(at, run.started_at), **said)


def _refuse_other_result(run: Run, status: RunStatus, end: RunEnd) -> None:
    if status is not run.status:
        raise IllegalTransition(f"run {run.id} can't finish as {status}: it finished as {run.status}, which is final")
    # A repeated report with other facts would be lost silently.
    for name, said in msgspec.structs.asdict(end).items():
        known = getattr(run, name)
        at_start = name == "finished_at" and said is not None and known == run.started_at and said < known
        if said is not None and not at_start and canonical(said) != canonical(known):
            raise IllegalTransition(
                f"run {run.id} finished as {run.status} with {name} {known!r}, not {said!r}; its end is final"
            )


def with_task_started(task: Task, now: int, run: Run) -> Task:
    """The run's task as running, with this run's id. Raises `IllegalTransition`."""
    owner = blank_to_none(task.run_id)
    if owner is not None and owner != run.id:
        raise IllegalTransition(f"task {task.task_id} belongs to run {owner}, not to run {run.id}")
    return replace(rules.start(task, now, run.started_at), run_id=run.id)


def with_task_ended(task: Task, now: int, run: Run) -> Task:
    """The task after the end of its run; unchanged if it has ended otherwise."""
    wanted = _TASK_STATUS[run.status]
    if wanted not in rules.allowed_next(task, run.id):
        return task
    return rules.finish(task, now, wanted, ended_at=run.finished_at, error=error_of(run), run_id=run.id)


def error_of(run: Run) -> str | None:
    """The error text that a run's end sets on its task and its sessions, or None."""
    if run.status is RunStatus.ABORTED_NO_SKILL:
        return f"{run.status}: {run.reason}" if run.reason is not None else run.status.value
    if run.status is RunStatus.INTERRUPTED and run.reason is None:
        return f"run {run.id} was interrupted"
    return run.reason


def opened(session_id: str, run: Run) -> Session:
    """A valid session of a running run. Raises `IllegalTransition` if the run has ended; `UsageError`."""
    name = trimmed("session_id", session_id)
    if name is None:
        raise UsageError("session_id must not be blank")
    if run.status is not RunStatus.RUNNING:
        raise IllegalTransition(f"run {run.id} is {run.status} and can't open session {name}")
    return Session(name, run.id)


def invalidated(session: Session, now: int, reason: str | None) -> Session:
    """The session as invalid; an already invalid one keeps its time and reason."""
    if not session.valid:
        return session
    return replace(session, valid=False, invalidated_at=time_ms("now", now), reason=reason)


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_INTEGER:
        raise UsageError(f"{name} must be a whole number from 0 to {_LARGEST_INTEGER}, not {value!r}")
    return value


def _cost(value: object) -> float | None:
    if value is None:
        return None
    # NaN is SQLite's NULL, and an integer can be too large for any float.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
        raise UsageError(f"cost_usd must be a number of US dollars, 0 or more, not {value!r}")
    # SQLite doesn't keep the sign of a zero.
    return float(value) + 0.0
