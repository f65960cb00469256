"""clock-set-back: a message waits until the clock is where it once was."""

from typing import Any

from tornpage.ledger.outbox import Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _BelievesTheClock(Outbox):
    """Compares the time of the next attempt and no other."""

    def _is_due(self, message: Any, now: int) -> bool:
        return message.next_attempt_at is None or now >= message.next_attempt_at


BUG = KnownBug(
    name="clock-set-back",
    source="schedule PR 323; robfig/cron PR 480; APScheduler issue 351",
    defect="after the clock was set back by a day nothing is sent for a day",
    checks=(
        "no-lost-message",
        "as-specified",
    ),
    parts=lambda: {"outbox": _BelievesTheClock},
    calls=(
        Action("outbox.enqueue", {**ENQUEUE.args, "later_ms": 86_400_000}),
        Action("outbox.recover", {"cutoff": None}),
    ),
    searches=("sweep",),
)
