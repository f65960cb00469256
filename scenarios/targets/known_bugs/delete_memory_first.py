"""delete-memory-first: memory forgets the task before the row is deleted (openclaw issue 88007)."""

from tornpage.ledger.stores.store import Change
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug, MemoryFirst


class MemoryFirstDelete(MemoryFirst):
    """A delete is in memory before the write that may throw."""

    def too_early(self, change: Change) -> bool:
        """Deletes."""
        return change.task is None


BUG = KnownBug(
    name="delete-memory-first",
    source="openclaw issue 88007 (fix 88008)",
    defect="delete changes memory, then the delete throws: the task is gone, and comes back on reload",
    # The second: another process makes the task, and this one deletes it before it has read that.
    checks=("memory-equals-disk", "observers-saw-exactly-the-commits"),
    parts=lambda: {"registry": MemoryFirstDelete},
    calls=(CREATE, Action("tasks.delete", {"task_id": "a"})),
)
