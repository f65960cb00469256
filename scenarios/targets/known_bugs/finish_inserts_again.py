"""finish-inserts-again: the end of a run is a second row, beside the one that says running."""

from msgspec.structs import replace

from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.history import RunHistory
from tornpage.ledger.runs import Run
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, START, KnownBug


class _Inserts(RunHistory):
    """Writes an end as a row of its own."""

    def _write_end(self, transaction: Transaction, ended: Run) -> None:
        super()._write_end(transaction, replace(ended, id=f"{ended.id}-end"))


BUG = KnownBug(
    name="finish-inserts-again",
    source="claude-hooks issue 1107",
    defect="each finished run is there twice, once as running: its cost is counted, and it is recovered at each start",
    checks=("in-flight-flagged-once",),
    parts=lambda: {"history": _Inserts},
    calls=(
        CREATE,
        START,
        Action("history.finish", {"run_id": "run-a", "status": "success", "cost_usd": 0.5}),
    ),
)
