"""backoff-blocks-the-line: the first message that isn't due yet ends the pass."""

from collections.abc import Sequence
from itertools import takewhile

from tornpage.ledger.outbox import Outbox
from tornpage.ledger.outbox.messages import Waiting
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import DELIVER, KnownBug


class _StopsAtTheFirst(Outbox):
    """Takes messages in order, up to the first one that has to wait."""

    def _select_due(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        due = set(super()._select_due(waiting))
        return list(takewhile(due.__contains__, waiting))


_FAIL = {"name": "outbox.fail", "args": {"message_id": "m1", "error": "connection reset"}}

BUG = KnownBug(
    name="backoff-blocks-the-line",
    source="openclaw issues 27638 and 27710",
    defect="one message that waits for its next attempt holds up all that were queued after it",
    checks=("no-lost-message",),
    parts=lambda: {"outbox": _StopsAtTheFirst},
    calls=(
        Action("batch", {"calls": [
            {"name": "outbox.enqueue", "args": {"message_id": "m1", "channel": "mail", "target": "you", "payload": {}}},
            # After the third failure it waits for two minutes, longer than a step takes.
            _FAIL, _FAIL, _FAIL,
            {"name": "outbox.enqueue", "args": {"message_id": "m2", "channel": "mail", "target": "you", "payload": {}}},
        ]}),
        DELIVER,
    ),
    searches=("sweep",),
)  # fmt: skip
