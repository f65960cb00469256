"""The records of background work: the `Task`, its `DeliveryState`, and the enumerations of both.

The records are frozen values, independent of storage: columns are derived from the field names (`ledger.disk.rows`),
and changes are functions that return a new record (`ledger.rules`). All times are whole milliseconds since the epoch,
UTC. The field names, their order and the enumerations follow openclaw's pull request 57361.

Constructing a record checks nothing (msgspec validates when it decodes, not when it constructs): the rules check the
callers' values, and the reader of a file checks its contents.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

import msgspec

JsonValue: TypeAlias = Any
"""None, bool, int, float, str, a list of such values or a dict from str to such values.

It is spelled `Any` because msgspec can't decode into a recursive alias.
"""

EARLIEST_MS: Final = -62_135_596_800_000
"""0001-01-01T00:00:00Z, the first moment `datetime` can show."""
LATEST_MS: Final = 253_370_764_800_000
"""9999-01-01T00:00:00Z: with the retention added, `datetime` can still show it."""
_LONGEST_WAIT_MS: Final = 7 * 24 * 3_600_000

TimeMs: TypeAlias = Annotated[int, msgspec.Meta(ge=EARLIEST_MS, le=LATEST_MS)]
"""The time of an event; a record with any other one can't be read."""
LaterMs: TypeAlias = Annotated[int, msgspec.Meta(ge=EARLIEST_MS, le=LATEST_MS + _LONGEST_WAIT_MS)]
"""A time that was computed from an event's: at most the retention of a task later."""


class Runtime(StrEnum):
    """The kind of program that does the work."""

    SUBAGENT = "subagent"
    ACP = "acp"
    CLI = "cli"
    CRON = "cron"


class Status(StrEnum):
    """The state of the work: queued, then running, then one of the terminal ones (`TERMINAL`)."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


class DeliveryStatus(StrEnum):
    """Whether the requester has been notified of the work's end."""

    PENDING = "pending"
    DELIVERED = "delivered"
    SESSION_QUEUED = "session_queued"
    FAILED = "failed"
    PARENT_MISSING = "parent_missing"
    NOT_APPLICABLE = "not_applicable"


class NotifyPolicy(StrEnum):
    """The events of which the requester wants to be notified."""

    DONE_ONLY = "done_only"
    STATE_CHANGES = "state_changes"
    SILENT = "silent"


class TerminalOutcome(StrEnum):
    """The result of a finished task for its requester; a run can succeed and still be blocked."""

    SUCCEEDED = "succeeded"
    BLOCKED = "blocked"


class ScopeKind(StrEnum):
    """Whether a session owns the task or the system does."""

    SESSION = "session"
    SYSTEM = "system"


TERMINAL: Final[frozenset[Status]] = frozenset(
    {Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.LOST}
)
"""The statuses that never become queued or running again."""


# gc=False: the garbage collector ignores tasks, so a large ledger costs no collection time. This is safe because the
# fields are text, integers, enumeration members or None, which can't form a cycle.
class Task(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One piece of background work; optional fields are None where absent. Times in milliseconds since the epoch."""

    task_id: str
    runtime: Runtime
    requester_session_key: str
    owner_key: str
    scope_kind: ScopeKind
    task: str
    status: Status
    delivery_status: DeliveryStatus
    notify_policy: NotifyPolicy
    created_at: TimeMs
    task_kind: str | None = None
    source_id: str | None = None
    child_session_key: str | None = None
    parent_flow_id: str | None = None
    parent_task_id: str | None = None
    agent_id: str | None = None
    requester_agent_id: str | None = None
    run_id: str | None = None
    label: str | None = None
    started_at: TimeMs | None = None
    ended_at: TimeMs | None = None
    last_event_at: TimeMs | None = None
    cleanup_after: LaterMs | None = None
    error: str | None = None
    progress_summary: str | None = None
    terminal_summary: str | None = None
    terminal_outcome: TerminalOutcome | None = None


class DeliveryState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of notifying the requester of one task.

    `requester_origin` is any JSON value, None if absent (JSON's null means absent as well); do not change it in place.
    `last_notified_event_at` is in milliseconds since the epoch.
    """

    task_id: str
    requester_origin: JsonValue = None
    last_notified_event_at: TimeMs | None = None
