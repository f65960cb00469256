"""start-not-persisted: a run comes on record only when it has finished."""

from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.history import RunHistory
from tornpage.ledger.runs import Run
from tornpage.scenarios.targets.known_bugs.build import CREATE, START, KnownBug


class _WritesAtTheEnd(RunHistory):
    """Keeps a run in memory until there is something to tell."""

    _started: dict[str, Run]

    def _write_start(self, transaction: Transaction, run: Run) -> None:  # noqa: ARG002 - as overridden
        self._started = {**getattr(self, "_started", {}), run.id: run}

    def _existing_run(self, transaction: Transaction, run_id: str) -> Run:  # type: ignore[override] # static there
        known = getattr(self, "_started", {})
        return known[run_id] if run_id in known else super()._existing_run(transaction, run_id)


BUG = KnownBug(
    name="start-not-persisted",
    source="claude-hooks issue 1107",
    defect="a run that dies before its end was never heard of: no row, no cost, nothing to recover",
    checks=("in-flight-flagged-once",),
    parts=lambda: {"history": _WritesAtTheEnd},
    calls=(CREATE, START),
)
