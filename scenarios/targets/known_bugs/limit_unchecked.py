"""limit-unchecked: a limit that is no number, or a huge one, is handed to Python and SQLite as it is."""

from tornpage.ledger import UsageError
from tornpage.ledger.outbox import Outbox
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _Compares(Outbox):
    """Compares the limit with one, and leaves the rest to others."""

    def prune(self, age_ms: float, *, limit: int | None = None) -> int:
        if limit is not None and limit < 1:
            raise UsageError(f"limit must be at least 1, not {limit}")
        if limit is not None and limit >= 2**63:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return super().prune(age_ms, limit=limit)


BUG = KnownBug(
    name="limit-unchecked",
    source="our own ledger, found by its model (python -m benchmarks.model_steps)",
    defect="a service that prunes with the limit of its configuration ends with a TypeError",
    checks=("error-is-not-hidden", "as-specified"),
    parts=lambda: {"outbox": _Compares},
    calls=(
        ENQUEUE,
        Action("outbox.ack", {"message_id": "m1"}),
        Action("outbox.prune", {"age_ms": 1, "limit": 2**63}),
    ),
    searches=("sweep",),
)
