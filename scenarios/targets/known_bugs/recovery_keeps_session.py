"""recovery-keeps-session: recovery flags the run and leaves its session valid."""

from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.history import RunHistory
from tornpage.ledger.runs import Run
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, OPEN_SESSION, START, KnownBug


class _KeepsSessions(RunHistory):
    """Ends runs without their sessions."""

    def _invalidate_sessions(self, transaction: Transaction, ended: Run, now: int) -> int:  # noqa: ARG002 - as overridden
        return 0


BUG = KnownBug(
    name="recovery-keeps-session",
    source="claude-hooks issue 1107",
    defect="the session of an interrupted run is resumed, and works on what is over",
    checks=("in-flight-flagged-once",),
    parts=lambda: {"history": _KeepsSessions},
    calls=(CREATE, START, OPEN_SESSION, Action("recover")),
    searches=("sweep",),
)
