"""observers-miss-others: observers do not hear of the change that another process has made to the same row before."""

from collections.abc import Sequence

from tornpage.ledger import TaskRegistry
from tornpage.ledger.stores.store import Change
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _TellsItsOwnOnly(TaskRegistry):
    """Tells of what it has changed itself, and leaves out what it found changed."""

    def _unheard(self, changes: Sequence[Change]) -> list[Change]:  # noqa: ARG002 - as overridden
        return []


BUG = KnownBug(
    name="observers-miss-others",
    source="our own ledger until 0.2, found by interleave",
    defect="an observer hears of a change from a state that was never reported to it",
    checks=("observers-saw-exactly-the-commits",),
    parts=lambda: {"registry": _TellsItsOwnOnly},
    calls=(
        CREATE,
        Action("tasks.progress", {"task_id": "a", "text": "half way"}),
        Action("tasks.set_notify_policy", {"task_id": "a", "policy": "silent"}),
    ),
    searches=("interleave",),
    budget=300,
)
