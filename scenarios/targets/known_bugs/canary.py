"""The canary: it breaks the first promise at once. A run that does not catch it is worthless."""

from tornpage.ledger import TaskRegistry
from tornpage.ledger.stores.store import Change
from tornpage.scenarios.targets.known_bugs.build import KnownBug


class Forgetful(TaskRegistry):
    """Never takes a committed change into memory."""

    def _adopt(self, change: Change) -> None:
        """Forget it."""


BUG = KnownBug(
    name="canary",
    source="tornpage itself (after TigerBeetle's canary fuzzer)",
    defect="memory never follows a commit: every reader of the process is wrong from the first change on",
    checks=("memory-equals-disk", "acknowledged-is-durable"),
    parts=lambda: {"registry": Forgetful},
    budget=50,
)
