"""one-attempt-too-many: a message that has had all its attempts is tried once more."""

from msgspec.structs import replace

from tornpage.ledger.outbox import Message, Outbox, rules
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _TriesOnceMore(Outbox):
    """Looks at the count before the attempt is added to it."""

    def _after_failure(self, message: Message, error: str, *, permanent: bool) -> Message:
        failed = super()._after_failure(message, error, permanent=permanent)
        if permanent or message.attempt_count > rules.MAX_ATTEMPTS - 1 or failed.next_attempt_at is not None:
            return failed
        waits = rules.failed(replace(message, attempt_count=0), self._clock(), error, permanent=False)
        return replace(waits, attempt_count=failed.attempt_count)


BUG = KnownBug(
    name="one-attempt-too-many",
    source="sidekiq-rs PR 39; runnerq issue 50; sentry PR 81671",
    defect="a message with five attempts is sent a sixth time",
    checks=(
        "no-lost-message",
        "as-specified",
    ),
    parts=lambda: {"outbox": _TriesOnceMore},
    calls=(
        ENQUEUE,
        *[Action("outbox.fail", {"message_id": "m1", "error": "connection reset"})] * 5,
    ),
    searches=("sweep",),
)
