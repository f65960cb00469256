"""A store that keeps all records in dicts, for tests of code that uses a `TaskStore`.

It copies the containers that it gets. Nothing in it is durable.
"""

from tornpage.ledger.records import DeliveryState, Task
from tornpage.ledger.stores.store import Snapshot


class MemoryStore:
    """A `TaskStore` with every optional method; `tasks` and `deliveries` are its contents."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.deliveries: dict[str, DeliveryState] = {}

    def load_snapshot(self) -> Snapshot:
        """Everything."""
        return Snapshot(dict(self.tasks), dict(self.deliveries))

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything."""
        self.tasks, self.deliveries = dict(snapshot.tasks), dict(snapshot.deliveries)

    def list_for_owner(self, owner_key: str) -> list[Task]:
        """The tasks of an owner, in insertion order."""
        return [task for task in self.tasks.values() if task.owner_key.strip() == owner_key.strip()]

    def upsert_task(self, task: Task) -> None:
        """Insert or replace one task."""
        self.tasks[task.task_id] = task

    def upsert_task_with_delivery(self, task: Task, delivery: DeliveryState) -> None:
        """Insert or replace one task and its delivery state."""
        self.tasks[task.task_id] = task
        self.deliveries[task.task_id] = delivery

    def delete_task(self, task_id: str) -> None:
        """Delete one task."""
        self.tasks.pop(task_id, None)

    def delete_task_with_delivery(self, task_id: str) -> None:
        """Delete one task and its delivery state."""
        self.tasks.pop(task_id, None)
        self.deliveries.pop(task_id, None)

    def upsert_delivery(self, delivery: DeliveryState) -> None:
        """Insert or replace one delivery state."""
        self.deliveries[delivery.task_id] = delivery

    def delete_delivery(self, task_id: str) -> None:
        """Delete one delivery state."""
        self.deliveries.pop(task_id, None)

    def close(self) -> None:
        """No effect."""
