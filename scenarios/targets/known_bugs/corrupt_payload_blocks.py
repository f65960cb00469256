"""corrupt-payload-blocks: one payload that can't be parsed stops all recovery."""

from collections.abc import Sequence

from tornpage.ledger.outbox import Outbox, rules
from tornpage.ledger.outbox.messages import Waiting
from tornpage.ledger.outbox.queue import log
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import DELIVER, ENQUEUE, KnownBug


class _ParsesAllFirst(Outbox):
    """Parses everything that it is going to send before it sends the first."""

    def _select_due(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        due = super()._select_due(waiting)
        try:
            for one in due:
                message = self.get(one.id)
                rules.parse_payload(message.payload if message is not None else "null")
        except rules.PayloadError as error:
            log.error("[outbox] recovery failed: %s", error)
            return []
        return due


BUG = KnownBug(
    name="corrupt-payload-blocks",
    source="openclaw issue 98354",
    defect="one payload that can't be parsed stops all recovery, at each start",
    checks=("no-lost-message",),
    parts=lambda: {"outbox": _ParsesAllFirst},
    calls=(
        ENQUEUE,
        Action("outbox.enqueue", {"message_id": "m2", "channel": "mail", "target": "you", "payload": {}}),
        Action("damaged_payload", {"message_id": "m1"}),
        DELIVER,
    ),
    searches=("sweep",),
)
