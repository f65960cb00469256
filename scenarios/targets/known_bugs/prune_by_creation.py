"""prune-by-creation: what is old goes, whether or not it is over."""

from tornpage.ledger.outbox import Outbox
from tornpage.ledger.outbox.messages import MESSAGES
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import ENQUEUE, KnownBug


class _ByAge(Outbox):
    """Prunes by the time of queueing."""

    def prune(self, age_ms: float, *, limit: int | None = None) -> int:
        before = int(self._clock() - self._prune_age(age_ms))
        with self._database.transaction() as transaction:
            rows = transaction.select(MESSAGES, "queued_at < ?", (before,))[:limit]
            for row in rows:
                transaction.delete(MESSAGES, row[MESSAGES.key_index])
        return len(rows)


BUG = KnownBug(
    name="prune-by-creation",
    source="github-issues-manager issue 272",
    defect="the cleanup removes what is still to be done",
    checks=(
        "only-what-is-over-goes",
        "as-specified",
    ),
    parts=lambda: {"outbox": _ByAge},
    calls=(
        ENQUEUE,
        Action("outbox.prune", {"age_ms": 1, "later_ms": 60_000}),
    ),
    searches=("sweep",),
)
