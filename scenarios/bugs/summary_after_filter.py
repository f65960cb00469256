"""summary-after-filter: the audit's summary counts only what the filter lets through."""

from collections.abc import Iterator

from ledger.audit import Audit, AuditedTask, Finding
from ledger.upkeep import Upkeep
from scenarios.bugs.build import CREATE, KnownBug
from scenarios.target import Action


class _FiltersFirst(Audit):
    """Filters, then counts."""

    def _findings(self, row: AuditedTask, task: AuditedTask) -> Iterator[Finding]:
        return filter(self.filters.admit, super()._findings(row, task))


class _Upkeep(Upkeep):
    """Audits like that."""

    collected = _FiltersFirst


BUG = KnownBug(
    name="summary-after-filter",
    source="openclaw PR 57361, review",
    defect="whoever asks for errors only is told that there are no warnings",
    checks=("report-is-true",),
    parts=lambda: {"upkeep": _Upkeep},
    calls=(
        CREATE,
        # That its requester could not be told is a warning.
        Action("tasks.set_delivery_status", {"task_id": "a", "status": "failed"}),
    ),
)
