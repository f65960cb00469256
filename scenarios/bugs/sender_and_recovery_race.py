"""sender-and-recovery-race: a recovery pass sends what a live sender is sending."""

from ledger.outbox import Message, Outbox
from scenarios.bugs.build import DELIVER, ENQUEUE, KnownBug
from scenarios.target import Action


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
