"""wal-never-truncates: the log is never checkpointed, so it grows as long as the process lives."""

from tornpage.ledger import TaskRegistry
from tornpage.ledger.stores import SqliteStore
from tornpage.ledger.stores.store import Backend, TaskStore
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _NoCheckpoint(TaskRegistry):
    """Switches the automatic checkpoint off, for speed."""

    def __init__(self, store: TaskStore | Backend, **options: object) -> None:
        super().__init__(store, **options)  # type: ignore[arg-type] # passed on as they came
        if isinstance(store, SqliteStore):
            store.database.connection.execute("PRAGMA wal_autocheckpoint = 0")


BUG = KnownBug(
    name="wal-never-truncates",
    source="openclaw issues 72774 and 112950",
    defect="the WAL grows without end",
    checks=("log-stays-small",),
    parts=lambda: {"registry": _NoCheckpoint},
    calls=(
        CREATE,
        Action("toil", {"task_id": "a", "times": 40, "kilobytes": 200}),
    ),
    searches=("sweep",),
)
