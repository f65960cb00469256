"""recovery-in-two-transactions: runs are flagged in one transaction, their sessions end in the next."""

from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.history import RunHistory
from tornpage.ledger.recovery import Recovered, Recovery
from tornpage.ledger.runs import SESSIONS, Run
from tornpage.scenarios.targets.known_bugs.build import KnownBug


class _TwoTransactions(Recovery):
    """Flags the runs, commits, and only then ends their sessions."""

    def run(self) -> Recovered:
        """Recover in two steps."""
        history = self._history
        assert isinstance(history, _History)  # noqa: S101 - it is the one below
        history.puts_off_sessions = True
        try:
            done = super().run()
        finally:
            history.puts_off_sessions = False
        with history.database.transaction() as transaction:
            for run in done.interrupted:
                history._invalidate_sessions(transaction, run, history.clock())
        return done


class _History(RunHistory):
    """A history with such a recovery."""

    recovery = _TwoTransactions
    puts_off_sessions = False

    def _invalidate_sessions(self, transaction: Transaction, ended: Run, now: int) -> int:
        if self.puts_off_sessions:
            return len(transaction.select(SESSIONS, "run_id = ? AND valid <> 0", (ended.id,)))
        return super()._invalidate_sessions(transaction, ended, now)


BUG = KnownBug(
    name="recovery-in-two-transactions",
    source="tornpage issue 4; ledger specification 4.3: boot recovery is one transaction",
    defect="a crash between the two leaves an interrupted run whose session stays valid: no pass looks at it again",
    checks=("in-flight-flagged-once",),
    parts=lambda: {"history": _History},
    searches=("crash",),
)
