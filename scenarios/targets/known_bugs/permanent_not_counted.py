"""permanent-not-counted: a message that failed for good has had no attempt."""

from msgspec.structs import replace

from tornpage.ledger.outbox import Message, Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _CountsOnlyRetries(Outbox):
    """Counts the attempts after which there is another."""

    def _after_failure(self, message: Message, error: str, *, permanent: bool) -> Message:
        failed = super()._after_failure(message, error, permanent=permanent)
        return replace(failed, attempt_count=message.attempt_count) if permanent else failed


BUG = KnownBug(
    name="permanent-not-counted",
    source="openclaw PR 29998, review",
    defect="a permanent failure doesn't count its attempt: the row says that it was never tried",
    checks=("no-lost-message",),
    parts=lambda: {"outbox": _CountsOnlyRetries},
    calls=(
        ENQUEUE,
        Action("outbox.fail", {"message_id": "m1", "error": "chat not found"}),
    ),
)
