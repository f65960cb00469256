"""summary-after-filter: the audit's summary counts only what the filter lets through."""

from collections.abc import Iterator

from tornpage.ledger.upkeep.audit import Audit, AuditedTask, Finding
from tornpage.ledger.upkeep.upkeep import Upkeep
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


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
    defect="a user who asks for errors only is told that there are no warnings",
    checks=("report-is-true",),
    parts=lambda: {"upkeep": _Upkeep},
    calls=(
        CREATE,
        # That its requester could not be told is a warning.
        Action("tasks.set_delivery_status", {"task_id": "a", "status": "failed"}),
    ),
)
