"""contradiction-repaired-first: the audit puts a row's times in order before it looks whether they contradict."""

from collections.abc import Iterator

from tornpage.ledger.rules.times import ordered
from tornpage.ledger.upkeep.audit import Audit, AuditedTask, Finding
from tornpage.ledger.upkeep.upkeep import Upkeep
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug
from tornpage.scenarios.targets.reference.rules.invariants import BY_ANOTHERS_HAND


class _MendsFirst(Audit):
    """Judges what it has repaired."""

    def _findings(self, row: AuditedTask, task: AuditedTask) -> Iterator[Finding]:
        yield from super()._findings(ordered(row), task)


class _Upkeep(Upkeep):
    """Audits like that."""

    collected = _MendsFirst


BUG = KnownBug(
    name="contradiction-repaired-first",
    source="a reviewer of this project",
    defect="the audit never reports inconsistent_timestamps, whatever an older version has written",
    checks=("as-specified",),
    parts=lambda: {"upkeep": _Upkeep},
    calls=(
        Action("tasks.create", {**CREATE.args, "status": "running", "label": BY_ANOTHERS_HAND}),
        Action("spoiled_row", {"table": "tasks", "key": "a", "column": "started_at", "value": 5}),
        Action("audit", {}),
    ),
    searches=("sweep",),
)
