"""fail-resurrects: a message that was delivered is failed, and so pending again."""

from tornpage.ledger.outbox import Message, Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _AlwaysPending(Outbox):
    """Changes a message without a look at where it stands."""

    def _is_pending(self, message: Message) -> bool:  # noqa: ARG002 - as overridden
        return True


BUG = KnownBug(
    name="fail-resurrects",
    source="openclaw PR 29998, review; issue 146899",
    defect="fail or move_to_failed turns a delivered row back into a pending or failed one: it is sent again",
    checks=("no-duplicate-after-ack",),
    parts=lambda: {"outbox": _AlwaysPending},
    calls=(
        ENQUEUE,
        Action("outbox.ack", {"message_id": "m1"}),
        Action("outbox.fail", {"message_id": "m1", "error": "connection reset"}),
    ),
)
