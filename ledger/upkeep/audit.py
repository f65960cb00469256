"""The audit: six rules for single tasks, the order of the findings, and the counts.

Functions without I/O: the caller passes pairs of a task *from its row* and the same task *reconciled* (times in order,
and lost if no worker or session runs it: projected, never written). The rules, thresholds and severities follow
openclaw's pull request 57361. Contradictory times are checked in the row, since every normalised read puts them in
order; all other rules use the reconciled task.

`Audit` takes the pairs one by one and keeps the counts and one page of findings, so its memory use depends on the page
and not on the ledger. Not covered: reading the tasks (`ledger.upkeep.inspection`), and unreadable rows.
"""

import heapq
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from tornpage.ledger.disk.rows import Quarantined
from tornpage.ledger.errors import UsageError
from tornpage.ledger.records import (
    TERMINAL,
    DeliveryStatus,
    LaterMs,
    NotifyPolicy,
    Runtime,
    ScopeKind,
    Status,
    Task,
    TerminalOutcome,
    TimeMs,
)
from tornpage.ledger.rules.times import LOST_RETENTION_MS, Timed, ordered
from tornpage.ledger.rules.values import member

_MINUTE_MS: Final = 60_000
STALE_QUEUED_MS: Final = 10 * _MINUTE_MS
"""How long a queued task may be without an event."""
STALE_RUNNING_MS: Final = 30 * _MINUTE_MS
"""How long a running task may be without an event."""


class Severity(StrEnum):
    """The severity of a finding."""

    WARN = "warn"
    ERROR = "error"


class AuditCode(StrEnum):
    """The kinds of finding."""

    STALE_QUEUED = "stale_queued"
    STALE_RUNNING = "stale_running"
    LOST = "lost"
    DELIVERY_FAILED = "delivery_failed"
    MISSING_CLEANUP = "missing_cleanup"
    INCONSISTENT_TIMESTAMPS = "inconsistent_timestamps"


# gc=False is safe: the fields can't form a reference cycle, as in `ledger.records.Task`.
class AuditedTask(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields of a task that the rules use, with the task's field names. Times in milliseconds."""

    task_id: str
    status: Status
    delivery_status: DeliveryStatus
    notify_policy: NotifyPolicy
    created_at: TimeMs
    started_at: TimeMs | None = None
    ended_at: TimeMs | None = None
    last_event_at: TimeMs | None = None
    cleanup_after: LaterMs | None = None
    error: str | None = None
    # No rule uses these: they are decoded so that an unreadable row is not audited, as it is not listed elsewhere.
    runtime: Runtime | None = None
    scope_kind: ScopeKind | None = None
    terminal_outcome: TerminalOutcome | None = None
    owner_key: str = ""
    run_id: str | None = None

    @classmethod
    def of(cls, task: Task) -> "AuditedTask":
        """The part of this task."""
        return cls(*(getattr(task, name) for name in cls.__struct_fields__))


class Finding(msgspec.Struct, frozen=True):
    """One problem of one task; `age_ms` is None if the rule doesn't depend on time."""

    severity: Severity
    code: AuditCode
    task_id: str
    status: Status
    age_ms: int | None
    created_at: int
    detail: str


class AuditFilters(msgspec.Struct, frozen=True):
    """The filters of a page; None means all."""

    severity: Severity | None = None
    code: AuditCode | None = None
    limit: int | None = None

    @classmethod
    def checked(cls, severity: str | None, code: str | None, limit: int | None) -> "AuditFilters":
        """The filters from plain values. Raises `UsageError`, naming the valid ones."""
        if limit is not None and (type(limit) is not int or limit < 1):
            raise UsageError(f"limit must be a whole number of at least 1, or None for all, not {limit!r}")
        return cls(
            member("severity", Severity, severity) if severity is not None else None,
            member("code", AuditCode, code) if code is not None else None,
            limit,
        )

    def admit(self, finding: Finding) -> bool:
        """Whether a finding passes the filters (without the limit)."""
        return self.severity in (None, finding.severity) and self.code in (None, finding.code)


class AuditSummary(msgspec.Struct, frozen=True):
    """The counts over the whole ledger, whatever the filters; `by_code` has every code."""

    total: int
    errors: int
    warnings: int
    by_code: dict[AuditCode, int]


class AuditReport(msgspec.Struct, frozen=True):
    """One page of findings, worst first.

    `count` is the number of all findings, `filtered_count` of those that pass the filters, `displayed` of those on this
    page. `quarantined` lists the rows that can't be read and so were not audited.
    """

    count: int
    filtered_count: int
    displayed: int
    filters: AuditFilters
    summary: AuditSummary
    findings: tuple[Finding, ...]
    quarantined: tuple[Quarantined, ...] = ()


# The rules


def age_ms(task: Timed, now: int) -> int:
    """The time since a task's last event; a future time counts as now."""
    times = (task.last_event_at, task.started_at, task.created_at)
    return max(0, now - next(time for time in times if time is not None))


def contradiction(row: Timed, status: Status) -> str | None:
    """The first contradiction between the times of a row, or between times and status; None if there is none."""
    if row.started_at is not None and row.started_at < row.created_at:
        return "started_at is earlier than created_at"
    if row.ended_at is not None and row.started_at is not None and row.ended_at < row.started_at:
        return "ended_at is earlier than started_at"
    if status not in TERMINAL and row.ended_at is not None:
        return f"{status}, but it has an ended_at"
    return None


def findings(row: AuditedTask, task: AuditedTask, now: int) -> Iterator[Finding]:
    """The findings of a task: `row` as stored, `task` reconciled."""
    age = age_ms(task, now)
    for rule in (_stale, _lost, _delivery_failed, _missing_cleanup):
        found = rule(task, age, now)
        if found is not None:
            severity, code, detail = found
            yield Finding(severity, code, task.task_id, task.status, age, task.created_at, detail)
    because = contradiction(row, row.status)
    if because is not None:
        code = AuditCode.INCONSISTENT_TIMESTAMPS
        yield Finding(Severity.WARN, code, row.task_id, row.status, None, task.created_at, because)


_Found = tuple[Severity, AuditCode, str]


def _stale(task: AuditedTask, age: int, _now: int) -> _Found | None:
    if task.status is Status.QUEUED and age >= STALE_QUEUED_MS:
        return Severity.WARN, AuditCode.STALE_QUEUED, "it is queued and nothing has happened to it for a while"
    if task.status is Status.RUNNING and age >= STALE_RUNNING_MS:
        return Severity.ERROR, AuditCode.STALE_RUNNING, "it is running, but it has not been heard of for a while"
    return None


def _lost(task: AuditedTask, _age: int, now: int) -> _Found | None:
    if task.status is not Status.LOST:
        return None
    kept = task.cleanup_after is not None and task.cleanup_after > now
    reason = (task.error or "").strip() or "nothing works on it any more"
    return Severity.WARN if kept else Severity.ERROR, AuditCode.LOST, reason


def _delivery_failed(task: AuditedTask, _age: int, _now: int) -> _Found | None:
    if task.delivery_status is DeliveryStatus.FAILED and task.notify_policy is not NotifyPolicy.SILENT:
        return Severity.WARN, AuditCode.DELIVERY_FAILED, "its requester could not be told"
    return None


def _missing_cleanup(task: AuditedTask, _age: int, _now: int) -> _Found | None:
    # A lost task is reported as lost, once, whether or not it has a date.
    if task.status in TERMINAL and task.status is not Status.LOST and task.cleanup_after is None:
        return Severity.WARN, AuditCode.MISSING_CLEANUP, "it is over, but has no cleanup_after: it would stay for ever"
    return None


# The page and the counts


def order_key(finding: Finding) -> tuple[bool, int, int]:
    """Errors first, then the oldest, those without an age last; then by creation."""
    age = finding.age_ms if finding.age_ms is not None else -1
    return finding.severity is not Severity.ERROR, -age, finding.created_at


class _Worst:
    """A finding on the heap: the smallest is the first to be dropped from the page."""

    __slots__ = ("finding", "key")

    def __init__(self, finding: Finding, sequence: int) -> None:
        self.finding = finding
        self.key = (*order_key(finding), sequence)

    def __lt__(self, other: "_Worst") -> bool:
        return self.key > other.key


class Audit:
    """Takes tasks one by one; `report` at the end. Keeps at most `filters.limit` findings."""

    def __init__(self, filters: AuditFilters, now: int) -> None:
        self.filters: Final = filters
        self.now: Final = now
        self._by_code: dict[AuditCode, int] = dict.fromkeys(AuditCode, 0)
        self._errors = 0
        self._admitted = 0
        self._page: list[_Worst] = []

    def take(self, row: AuditedTask, task: AuditedTask | None = None) -> None:
        """Audit a task: as stored, and reconciled (None: as stored, with the times in order)."""
        for finding in self._findings(row, task if task is not None else ordered(row)):
            self._count(finding)
            if self.filters.admit(finding):
                self._keep(finding)

    def _findings(self, row: AuditedTask, task: AuditedTask) -> Iterator[Finding]:
        return findings(row, task, self.now)

    def _count(self, finding: Finding) -> None:
        self._by_code[finding.code] += 1
        self._errors += finding.severity is Severity.ERROR

    def _keep(self, finding: Finding) -> None:
        # Equal findings keep their order: tasks come in insertion order.
        entry = _Worst(finding, self._admitted)
        self._admitted += 1
        if self.filters.limit is None:
            self._page.append(entry)
        elif len(self._page) < self.filters.limit:
            heapq.heappush(self._page, entry)
        else:
            heapq.heappushpop(self._page, entry)

    def report(self, quarantined: tuple[Quarantined, ...] = ()) -> AuditReport:
        """The report of all tasks taken so far."""
        page = tuple(entry.finding for entry in sorted(self._page, key=lambda entry: entry.key))
        total = sum(self._by_code.values())
        return AuditReport(
            count=total,
            filtered_count=self._admitted,
            displayed=len(page),
            filters=self.filters,
            summary=AuditSummary(total, self._errors, total - self._errors, dict(self._by_code)),
            findings=page,
            quarantined=quarantined,
        )


def projected(row: AuditedTask, now: int, reason: str) -> AuditedTask:
    """The task as if maintenance marked it as lost now; see `ledger.upkeep.maintenance`."""
    return replace(
        row,
        status=Status.LOST,
        created_at=ordered(row).created_at,
        ended_at=now,
        last_event_at=now,
        cleanup_after=now + LOST_RETENTION_MS,
        error=row.error or reason,
    )
