"""running-survives-restart: tasks that were running when the process died are still running after the restart."""

from tornpage.ledger.disk.rows import Quarantined
from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.history import RunHistory
from tornpage.ledger.recovery import Recovery
from tornpage.ledger.runs import Run
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, START, KnownBug


class _LooksAway(Recovery):
    """Recovers what memory knows of, which after a start is nothing."""

    def _in_flight(self, transaction: Transaction) -> tuple[list[Run], list[Quarantined]]:  # noqa: ARG002 - as overridden
        return [], []


class _History(RunHistory):
    """A history with such a recovery."""

    recovery = _LooksAway


BUG = KnownBug(
    name="running-survives-restart",
    source="openclaw issues 65136, 75307 and 78463",
    defect="running rows of a dead process are never reconciled: they run for ever",
    checks=("in-flight-flagged-once",),
    parts=lambda: {"history": _History},
    calls=(CREATE, START, Action("recover")),
    searches=("sweep",),
)
