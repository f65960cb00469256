"""bad-row-stops-all: one row that can't be read keeps all others from being loaded."""

from tornpage.ledger import Snapshot, StoreCorrupt, TaskRegistry
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _AllOrNothing(TaskRegistry):
    """Reads every row, or none."""

    def _load(self) -> tuple[object, Snapshot]:
        version, snapshot = super()._load()
        for one in snapshot.quarantined:
            raise StoreCorrupt(f"{one.table} {one.key}: {one.reason}")
        return version, snapshot


BUG = KnownBug(
    name="bad-row-stops-all",
    source="kestra issue 19734; opensquilla PR 11",
    defect="a row of another version stops the whole scheduler",
    checks=(
        "still-usable-after-the-fault",
        "as-specified",
    ),
    parts=lambda: {"registry": _AllOrNothing},
    calls=(
        CREATE,
        Action("spoiled_row", {"table": "tasks", "key": "a", "column": "created_at", "value": "soon"}),
        Action("tasks.create", {"id": "b", "runtime": "cli", "requester_session_key": "main", "task": "other"}),
    ),
    searches=("sweep",),
)
