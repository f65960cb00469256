"""sender-and-recovery-race: a recovery pass sends what a live sender is sending."""

from tornpage.ledger.outbox import Message, Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import DELIVER, ENQUEUE, KnownBug


class _IgnoresLeases(Outbox):
    """Looks at the status of a message, and not at who is sending it."""

    def _is_free(self, message: Message) -> bool:  # noqa: ARG002 - as overridden
        return True


BUG = KnownBug(
    name="sender-and-recovery-race",
    source="openclaw issue 119966",
    defect="a live send and a recovery pass deliver the same message",
    checks=("no-duplicate-after-ack",),
    parts=lambda: {"outbox": _IgnoresLeases},
    calls=(
        ENQUEUE,
        Action("outbox.claim", {"message_id": "m1", "worker_id": "sender"}),
        DELIVER,
    ),
    searches=("sweep",),
)
