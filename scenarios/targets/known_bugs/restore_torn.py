"""restore-torn: tasks and delivery states are read in two transactions, with somebody else's commit in between."""

from tornpage.ledger import TaskRegistry
from tornpage.ledger.disk.rows import DELIVERIES, TASKS
from tornpage.ledger.stores import SqliteStore
from tornpage.ledger.stores.store import Backend, Snapshot, TaskStore
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug


class _TornStore(SqliteStore):
    """Reads one table, then the other."""

    def load(self) -> tuple[object, Snapshot]:
        """Everything, but not as of one moment."""
        _, (task_rows,) = self.database.read_tables((TASKS,))
        version, (delivery_rows,) = self.database.read_tables((DELIVERIES,))
        tasks, _ = TASKS.decode_all(task_rows)
        deliveries, _ = DELIVERIES.decode_all(delivery_rows)
        known = {task.task_id: task for task in tasks}
        return version, Snapshot(known, {state.task_id: state for state in deliveries if state.task_id in known})


class _Torn(TaskRegistry):
    """A registry over such a store."""

    def __init__(self, store: TaskStore | Backend, **options: object) -> None:
        torn = _TornStore(store.database) if isinstance(store, SqliteStore) else store
        super().__init__(torn, **options)  # type: ignore[arg-type] # passed on as they came


_TASK = {"runtime": "cli", "requester_session_key": "main", "task": "work"}

BUG = KnownBug(
    name="restore-torn",
    source="openclaw issue 104990",
    defect="a task that another process deleted between the two reads stays in memory, and in the owner index",
    checks=("memory-equals-disk",),
    parts=lambda: {"registry": _Torn},
    calls=(
        Action("tasks.create", {"id": "a", **_TASK}),
        Action("meanwhile", {
            "first": {"name": "tasks.create", "args": {"id": "b", **_TASK}},
            "then": {"name": "tasks.delete", "args": {"task_id": "a"}},
        }),
    ),
    searches=("sweep",),
)  # fmt: skip
