"""permanent-retried: an error that can't get better is tried again like any other."""

from tornpage.ledger.outbox import Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _Hopes(Outbox):
    """Takes every error for a passing one."""

    def _is_permanent(self, error: str) -> bool:  # noqa: ARG002 - as overridden
        return False


BUG = KnownBug(
    name="permanent-retried",
    source="openclaw issue 23777",
    defect="permanent errors are retried for ever",
    checks=("no-lost-message",),
    parts=lambda: {"outbox": _Hopes},
    calls=(
        ENQUEUE,
        Action("outbox.fail", {"message_id": "m1", "error": "Bad Request: Chat Not Found"}),
    ),
)
