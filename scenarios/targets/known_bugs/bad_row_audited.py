"""bad-row-audited: the audit judges a row that everything else reports as one that can't be read."""

from typing import Any

import msgspec

from tornpage.ledger.disk.rows import Quarantined, fetch
from tornpage.ledger.upkeep.audit import AuditedTask
from tornpage.ledger.upkeep.inspection import SqliteSource, Visit
from tornpage.ledger.upkeep.upkeep import Upkeep
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug, OfOneScript


class _Narrow(SqliteSource):
    """Reads of each row what the rules look at, and takes the rest for whole."""

    def scan(self, visit: Visit) -> tuple[Quarantined, ...]:
        names = ("task_id", "status", "delivery_status", "notify_policy", "created_at", "started_at", "ended_at",
                 "last_event_at", "cleanup_after", "error")  # fmt: skip
        with self._database.reading() as connection:
            rows = fetch(connection, f"SELECT {', '.join(names)} FROM tasks ORDER BY insertion")  # noqa: S608 - names above
        for row in rows:
            visit(msgspec.convert(row, AuditedTask))
        return ()


class _Upkeep(Upkeep):
    """Looks at the rows like that."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        if self._database is not None:
            self._source = _Narrow(self._database)  # type: ignore[misc] # this build has another one


# A task that nothing has happened to for an hour, and that can't be read.
_SCRIPT = (
    CREATE,
    Action("spoiled_row", {"table": "tasks", "key": "a", "column": "runtime", "value": "shell"}),
    Action("audit", {"later_ms": 3_600_000}),
)

BUG = KnownBug(
    name="bad-row-audited",
    source="our own ledger, found by its model (python -m benchmarks.model_steps)",
    defect="the audit counts a task that no list shows, and maintenance announces what it can't do",
    checks=("report-is-true", "as-specified"),
    make=lambda name: OfOneScript(name, _SCRIPT, upkeep=_Upkeep),
    searches=("sweep",),
)
