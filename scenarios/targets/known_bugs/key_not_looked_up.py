"""key-not-looked-up: the idempotency key is stored, and never looked up."""

from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.outbox import Message, Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _OnlyStoresIt(Outbox):
    """Takes the key, and makes a message of it in any case."""

    def _find_by_key(self, transaction: Transaction, key: str | None) -> Message | None:  # noqa: ARG002 - as overridden
        return None


BUG = KnownBug(
    name="key-not-looked-up",
    source="paperclip issue 2489",
    defect="the same request again is an error, or a second message",
    checks=("as-specified",),
    parts=lambda: {"outbox": _OnlyStoresIt},
    calls=(
        ENQUEUE,
        Action("outbox.enqueue", {**ENQUEUE.args, "message_id": "m2"}),
    ),
    searches=("sweep",),
)
