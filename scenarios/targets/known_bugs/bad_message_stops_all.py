"""bad-message-stops-all: a message whose row can't be read ends each pass before it has sent anything."""

from collections.abc import Sequence

from tornpage.ledger.disk.rows import Quarantined
from tornpage.ledger.outbox import Outbox
from tornpage.ledger.outbox.messages import MESSAGES, WAITING, Waiting
from tornpage.ledger.outbox.queue import PENDING_SQL
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import DELIVER, ENQUEUE, KnownBug


class _ReadsAll(Outbox):
    """Reads each waiting row, and gives up at the first that it can't read."""

    def _waiting(self) -> tuple[list[Waiting], list[Quarantined]]:
        for row in self._database.select(MESSAGES, PENDING_SQL):
            MESSAGES.decode(row)
        found: Sequence[Waiting] = [WAITING.decode(row) for row in self._database.select(WAITING, PENDING_SQL)]
        return sorted(found, key=lambda one: one.queued_at), []


BUG = KnownBug(
    name="bad-message-stops-all",
    source="a reviewer of this project",
    defect="after somebody has edited one row by hand, no message is sent any more",
    checks=("as-specified", "no-lost-message"),
    parts=lambda: {"outbox": _ReadsAll},
    calls=(
        ENQUEUE,
        Action("outbox.enqueue", {**ENQUEUE.args, "message_id": "m2", "idempotency_key": "key-2"}),
        Action("spoiled_row", {"table": "message_outbox", "key": "m1", "column": "attempt_count", "value": "x"}),
        DELIVER,
    ),
    searches=("sweep",),
)
