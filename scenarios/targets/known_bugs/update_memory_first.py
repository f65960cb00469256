"""update-memory-first: memory takes the change before the row is written (openclaw issue 88007)."""

from msgspec import UNSET

from tornpage.ledger.stores.store import Change
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug, MemoryFirst


class MemoryFirstUpdate(MemoryFirst):
    """An update is in memory, and in the indexes, before the write that may throw."""

    def too_early(self, change: Change) -> bool:
        """Updates of a task that exists."""
        return change.task is not None and change.task is not UNSET and change.previous is not None


BUG = KnownBug(
    name="update-memory-first",
    source="openclaw issue 88007 (fix 88008)",
    defect="update changes memory, then the upsert throws: the process answers with a state that no file has",
    checks=("memory-equals-disk", "observers-saw-exactly-the-commits"),
    parts=lambda: {"registry": MemoryFirstUpdate},
    calls=(CREATE, Action("tasks.progress", {"task_id": "a", "text": "half way"})),
)
