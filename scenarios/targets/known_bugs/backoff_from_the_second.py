"""backoff-from-the-second: the first wait is the second of the table."""

from msgspec.structs import replace

from tornpage.ledger.outbox import Message, MessageStatus, Outbox, rules
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _CountsFirst(Outbox):
    """Adds the attempt, then looks the wait up as if it were still to come."""

    def _after_failure(self, message: Message, error: str, *, permanent: bool) -> Message:
        failed = super()._after_failure(message, error, permanent=permanent)
        if failed.status is not MessageStatus.FAILED_RETRYABLE:
            return failed
        return replace(failed, next_attempt_at=self._clock() + rules.backoff_ms(failed.attempt_count + 1))


BUG = KnownBug(
    name="backoff-from-the-second",
    source="failsafe issue 97; cockatiel issue 30; pg-boss issue 839",
    defect="the first retry comes after five times the time it should take",
    checks=(
        "no-lost-message",
        "as-specified",
    ),
    parts=lambda: {"outbox": _CountsFirst},
    calls=(
        ENQUEUE,
        Action("outbox.fail", {"message_id": "m1", "error": "connection reset"}),
    ),
    searches=("sweep",),
)
