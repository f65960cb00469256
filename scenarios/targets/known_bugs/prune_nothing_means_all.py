"""prune-nothing-means-all: prune(0) deletes every message that has ended."""

from tornpage.ledger.outbox import Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _TakesAnyAge(Outbox):
    """Takes any number for an age."""

    def _prune_age(self, age_ms: float) -> float:
        return age_ms


BUG = KnownBug(
    name="prune-nothing-means-all",
    source="openclaw PR 29998, review",
    defect="a user who configures 0, meaning never, loses every record of what was delivered",
    checks=("only-what-is-over-goes", "as-specified"),
    parts=lambda: {"outbox": _TakesAnyAge},
    calls=(
        ENQUEUE,
        Action("outbox.ack", {"message_id": "m1"}),
        Action("outbox.prune", {"age_ms": 0}),
    ),
)
