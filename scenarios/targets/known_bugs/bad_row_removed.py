"""bad-row-removed: a row that can't be read is deleted."""

from tornpage.ledger import Snapshot, TaskRegistry
from tornpage.ledger.stores.sqlite import SqliteStore
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _CleansUp(TaskRegistry):
    """Removes what it can't restore."""

    def _load(self) -> tuple[object, Snapshot]:
        version, snapshot = super()._load()
        backend = self.backend
        if snapshot.quarantined and isinstance(backend, SqliteStore):
            with backend.database.lock:
                for one in snapshot.quarantined:
                    backend.database.connection.execute("DELETE FROM tasks WHERE task_id = ?", (one.key,))
            return super()._load()
        return version, snapshot


BUG = KnownBug(
    name="bad-row-removed",
    source="AutoGPT PR 14218, of APScheduler's job stores",
    defect="268 schedules that a new version could not read were deleted in eight seconds",
    checks=("only-what-is-over-goes", "as-specified"),
    parts=lambda: {"registry": _CleansUp},
    calls=(
        CREATE,
        Action("spoiled_row", {"table": "tasks", "key": "a", "column": "created_at", "value": "soon"}),
        Action("tasks.create", {"id": "b", "runtime": "cli", "requester_session_key": "main", "task": "other"}),
    ),
    searches=("sweep",),
)
