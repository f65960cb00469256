"""said-before-it-is-so: recovery writes its lines into the log before the commit that makes them true."""

from tornpage.ledger import RunHistory
from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.recovery import Recovered, Recovery
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, START, KnownBug


class _SaysFirst(Recovery):
    """Announces what it is about to commit."""

    def _interrupt_all(self, transaction: Transaction) -> Recovered:
        done = super()._interrupt_all(transaction)
        super().announce(done.interrupted)
        return done

    def announce(self, interrupted: object) -> None:
        """It was said already."""


class _History(RunHistory):
    """Recovers like that."""

    recovery = _SaysFirst


BUG = KnownBug(
    name="said-before-it-is-so",
    source="a reviewer of this project",
    defect="on a full disk each start logs the same runs as interrupted anew, and they are still running",
    checks=("as-specified",),
    parts=lambda: {"history": _History},
    calls=(CREATE, START, Action("recover", {})),
    searches=("sweep",),
)
