"""created-after-started: created_at is read from the clock when the row is written, after started_at is known."""

from msgspec.structs import replace

from tornpage.ledger import Task, TaskRegistry
from tornpage.ledger.stores.store import Change, Unit
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug


class _ReadsTheClockAgain(TaskRegistry):
    """Dates a new row itself."""

    def _persist(self, unit: Unit, change: Change) -> None:
        if isinstance(change.task, Task) and change.previous is None:
            change = replace(change, task=replace(change.task, created_at=self._clock()))
        super()._persist(unit, change)


BUG = KnownBug(
    name="created-after-started",
    source="openclaw PRs 69229, 70887 and 72035",
    defect="a task was created after it started, and every audit says so",
    checks=("state-makes-sense",),
    parts=lambda: {"registry": _ReadsTheClockAgain},
    calls=(
        Action("tasks.create", {
            "id": "a", "runtime": "cli", "requester_session_key": "main", "task": "work",
            "status": "running", "started_at": 1_600_000_000_000,
        }),
    ),
)  # fmt: skip
