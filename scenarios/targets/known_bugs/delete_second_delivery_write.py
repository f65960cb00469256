"""delete-second-delivery-write: the task goes in one transaction, then its delivery state once more in another."""

from tornpage.ledger import Task, TaskRegistry
from tornpage.ledger.stores.store import Change, Unit
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _DeletesTwice(TaskRegistry):
    """Deletes both, commits, and deletes the delivery state again, to be sure."""

    def delete(self, task_id: str) -> Task:
        """Delete, then write once more."""
        gone = super().delete(task_id)

        def again(_unit: Unit) -> tuple[Change]:
            return (Change(task_id, delivery=None),)

        self._change(again)
        return gone


BUG = KnownBug(
    name="delete-second-delivery-write",
    source="openclaw PR 88008, review (a)",
    defect="the second write throws: the caller hears that the delete failed, and the task is gone",
    checks=("failed-write-changed-nothing", "all-or-nothing"),
    parts=lambda: {"registry": _DeletesTwice},
    calls=(
        CREATE,
        Action("tasks.set_delivery_state", {"task_id": "a", "last_notified_event_at": 5}),
        Action("tasks.delete", {"task_id": "a"}),
    ),
    searches=("sweep",),
)
