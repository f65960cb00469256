"""lost-is-also-missing-cleanup: the audit tells of a lost task twice."""

from collections.abc import Iterator

from tornpage.ledger.records import Status
from tornpage.ledger.upkeep.audit import Audit, AuditCode, AuditedTask, Finding, Severity
from tornpage.ledger.upkeep.upkeep import Upkeep
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _TellsTwice(Audit):
    """Misses the date of lost tasks, too."""

    def _findings(self, row: AuditedTask, task: AuditedTask) -> Iterator[Finding]:
        yield from super()._findings(row, task)
        if task.status is Status.LOST and task.cleanup_after is None:
            code = AuditCode.MISSING_CLEANUP
            yield Finding(Severity.WARN, code, task.task_id, task.status, 0, task.created_at, "it has no cleanup_after")


class _Upkeep(Upkeep):
    """Audits like that."""

    collected = _TellsTwice


BUG = KnownBug(
    name="lost-is-also-missing-cleanup",
    source="openclaw PR 57361, review",
    defect="the audit reports a lost task twice: as lost, and as one that lacks a date to be pruned",
    checks=("report-is-true",),
    parts=lambda: {"upkeep": _Upkeep},
    calls=(
        CREATE,
        Action("older_row", {"task_id": "a"}),
    ),
    searches=("sweep",),
)
