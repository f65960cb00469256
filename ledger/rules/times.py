"""The order of a task's times, and when a finished task may be pruned.

After a clock jump backwards a task could end before it started. So every record's times are put in order when it is
created, updated, restored or read again, and an audit never reports the effect of a clock jump. The rule is
openclaw's (pull requests 69229, 70887 and 72035, where a creation time read after the start time was the defect):
the creation moves down to the earliest time present, the other times move up.

`cleanup_after` is a date in the future, not an event, and takes no part in the order.
"""

from typing import Final, Protocol, TypeVar

from msgspec.structs import replace

from tornpage.ledger.records import Status, Task

_HOUR_MS: Final = 3_600_000
RETENTION_MS: Final = 7 * 24 * _HOUR_MS
"""How long a finished task is kept."""
LOST_RETENTION_MS: Final = 24 * _HOUR_MS
"""How long a lost task is kept."""


class Timed(Protocol):
    """A frozen struct with the times of a task: a `Task`, or the part of one that an audit uses."""

    @property
    def created_at(self) -> int:
        """Milliseconds since the epoch, as the others."""

    @property
    def started_at(self) -> int | None:
        """None if it never started."""

    @property
    def ended_at(self) -> int | None:
        """None if it hasn't ended."""

    @property
    def last_event_at(self) -> int | None:
        """None if it is unknown."""


TimedT = TypeVar("TimedT", bound=Timed)


def ordered(task: TimedT) -> TimedT:
    """Put the times in order; the same object if they already are.

    created_at = the earliest of all times present; started_at ≥ created_at; ended_at and last_event_at ≥ started_at,
    or ≥ created_at where the task never started.
    """
    created, started, ended, last = task.created_at, task.started_at, task.ended_at, task.last_event_at
    floor = created if started is None else started
    if created <= floor and (ended is None or ended >= floor) and (last is None or last >= floor):
        return task
    created = min(time for time in (created, started, ended, last) if time is not None)
    floor = created if started is None else started
    return replace(  # type: ignore[type-var]  # A protocol can't say that it is a Struct.
        task,
        created_at=created,
        ended_at=None if ended is None else max(ended, floor),
        last_event_at=None if last is None else max(last, floor),
    )


def cleanup_time(task: Task) -> int:
    """When a terminal task may be pruned, in milliseconds since the epoch.

    (ended_at, else last_event_at, else created_at) + 7 days; for a lost task + 24 hours.
    """
    base = next(time for time in (task.ended_at, task.last_event_at, task.created_at) if time is not None)
    return base + (LOST_RETENTION_MS if task.status == Status.LOST else RETENTION_MS)
