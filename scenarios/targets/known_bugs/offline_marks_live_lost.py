"""offline-marks-live-lost: maintenance in another process knows its own workers only, and takes the others for dead."""

from pathlib import Path

from tornpage.ledger import workers
from tornpage.ledger.upkeep.inspection import Liveness
from tornpage.ledger.upkeep.upkeep import Upkeep
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, START, KnownBug


def _held_here(worker_id: str) -> bool:
    return any(Path(path).stem == worker_id for path in workers._held_by_this_process)


class _AsksItself(Upkeep):
    """Asks this process which workers live, and not the system."""

    def _liveness(self) -> Liveness:
        return Liveness(_held_here, self._session_hooks)


BUG = KnownBug(
    name="offline-marks-live-lost",
    source="openclaw issues 127985 and 132602",
    defect="maintenance on the command line marks live work lost, and its real end is dropped",
    checks=("in-flight-flagged-once",),
    parts=lambda: {"upkeep": _AsksItself},
    calls=(
        CREATE,
        START,
        Action("elsewhere", {"call": {"name": "maintenance", "args": {"later_ms": 3_600_000}}}),
    ),
    searches=("sweep",),
)
