"""replay-after-crash: messages that were being sent when the process died are sent again at each start, unmarked."""

from msgspec.structs import replace

from tornpage.ledger.outbox import Envelope, Message, Outbox
from tornpage.scenarios.targets.known_bugs.build import DELIVER, ENQUEUE, KnownBug


class _Replays(Outbox):
    """Sends without the key, and doesn't count the attempt of a sender that died."""

    def _envelope(self, message: Message) -> Envelope:
        return replace(super()._envelope(message), idempotency_key="")

    def _without_dead_lease(self, message: Message) -> Message:
        return replace(message, leased_by=None)


BUG = KnownBug(
    name="replay-after-crash",
    source="openclaw issues 29106 and 50496",
    defect="a crash between delivery and ack replays the message at each restart, without its idempotency key",
    checks=("no-duplicate-after-ack",),
    parts=lambda: {"outbox": _Replays},
    calls=(
        ENQUEUE,
        DELIVER,
    ),
)  # fmt: skip
