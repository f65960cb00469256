"""unread-message-pruned: pruning goes by two columns alone, and so deletes messages that can't be read."""

from tornpage.ledger.outbox import Outbox
from tornpage.ledger.outbox.messages import MESSAGES
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug, OfOneScript


class _ByTwoColumns(Outbox):
    """Reads no row whole before it deletes it."""

    def prune(self, age_ms: float, *, limit: int | None = None) -> int:
        """Delete messages that ended longer ago than `age_ms`."""
        del limit
        with self._database.transaction() as transaction:
            rows = transaction.select(MESSAGES, "completed_at < ?", (self._now() - self._prune_age(age_ms),))
            for row in rows:
                transaction.delete(MESSAGES, row[MESSAGES.key_index])
        return len(rows)


_SCRIPT = (
    ENQUEUE,
    Action("outbox.ack", {"message_id": "m1"}),
    Action("spoiled_row", {"table": "message_outbox", "key": "m1", "column": "last_attempt_at", "value": "soon"}),
    Action("outbox.prune", {"age_ms": 1, "later_ms": 60_000}),
)

BUG = KnownBug(
    name="unread-message-pruned",
    source="our own ledger, found by reading it against its specification",
    defect="a message of a newer version, which this one reported as unreadable, is gone after a prune",
    checks=("as-specified",),
    make=lambda name: OfOneScript(name, _SCRIPT, outbox=_ByTwoColumns),
    searches=("sweep",),
)
