"""lost-without-cleanup: marking a task lost leaves the date of its pruning to a later pass."""

from msgspec.structs import replace

from tornpage.ledger import Task
from tornpage.ledger.upkeep.maintenance import Maintenance
from tornpage.ledger.upkeep.upkeep import Upkeep
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, START, KnownBug


class _StampsLater(Maintenance):
    """Marks, and leaves the date to the step that stamps."""

    def _as_lost(self, task: Task, reason: str) -> Task:
        return replace(super()._as_lost(task, reason), cleanup_after=None)


class _Upkeep(Upkeep):
    """Maintains like that."""

    maintenance = _StampsLater


BUG = KnownBug(
    name="lost-without-cleanup",
    source="openclaw issue 57439",
    defect="a lost task has no cleanup_after until another pass: where none comes, it stays for ever",
    checks=("state-makes-sense",),
    parts=lambda: {"upkeep": _Upkeep},
    calls=(
        CREATE,
        START,
        Action("maintenance", {"later_ms": 3_600_000}),
    ),
)
