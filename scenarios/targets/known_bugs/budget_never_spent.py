"""budget-never-spent: a pass over the outbox looks at its budget once, before the first message."""

from collections.abc import Sequence

from tornpage.ledger.outbox import Outbox
from tornpage.ledger.outbox.messages import Waiting
from tornpage.ledger.outbox.recovery import Deliver, _Budget
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import DELIVER, ENQUEUE, KnownBug


class _LooksOnce(Outbox):
    """Sends all that is due once it has begun."""

    def _send_all(
        self, due: Sequence[Waiting], deliver: Deliver, budget: _Budget, worker_id: str | None, counts: dict[str, int]
    ) -> None:
        unlimited = _Budget(lambda: 0, 1)
        super()._send_all(due, deliver, budget if budget.is_spent() else unlimited, worker_id, counts)


BUG = KnownBug(
    name="budget-never-spent",
    source="a reviewer of this project",
    defect="behind a slow receiver a pass with a budget of a minute goes on for an hour",
    checks=("as-specified",),
    parts=lambda: {"outbox": _LooksOnce},
    calls=(
        Action("outbox.enqueue", {**ENQUEUE.args, "payload": {"takes_ms": 61_000}}),
        Action("outbox.enqueue", {**ENQUEUE.args, "message_id": "m2", "idempotency_key": "key-2"}),
        DELIVER,
    ),
    searches=("sweep",),
)
