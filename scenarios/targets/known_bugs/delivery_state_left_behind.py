"""delivery-state-left-behind: after a failed call memory adopts the task that the store holds, and not its origin."""

from collections.abc import Sequence

from tornpage.ledger import TaskRegistry
from tornpage.ledger.stores.store import Change
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug, OnAnotherStore


class _Registry(TaskRegistry):
    """Looks at the task alone for what has changed."""

    def settled(self, found: Sequence[Change] | None) -> None:
        """After a call that failed: what the store holds."""
        known = self._memory.tasks
        super().settled(found and [one for one in found if one.task != known.get(one.task_id)])


_CALLS = (
    CREATE,
    Action("tasks.set_delivery_state", {"task_id": "a", "last_notified_event_at": 5}),
    Action("tasks.start", {"task_id": "a"}),
)
_HOW = {"fails": {"1": "twice after"}, "lacks": ["upsert_task", "upsert_delivery"]}

BUG = KnownBug(
    name="delivery-state-left-behind",
    source="our own ledger, found by its model (a script of stores that fail twice)",
    defect="a store that failed after it had kept a delivery state is handed a snapshot without it at the next change",
    checks=("as-specified",),
    make=lambda name: OnAnotherStore(name, _Registry, _CALLS, **_HOW),
    sound=lambda name: OnAnotherStore(name, TaskRegistry, _CALLS, **_HOW),
    searches=("sweep",),
)
