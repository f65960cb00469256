"""hooks-skip-empty: observers don't hear of a restore that found nothing."""

from tornpage.ledger import TaskRegistry
from tornpage.scenarios.targets.known_bugs.build import KnownBug


class _SaysNothing(TaskRegistry):
    """Announces what was restored, where there was something."""

    def _tell_restored(self) -> None:
        if self._memory.tasks:
            super()._tell_restored()
        else:
            self._restore_untold = False


BUG = KnownBug(
    name="hooks-skip-empty",
    source="openclaw PR 56927, review",
    defect="code that waits for `restored` before it works waits for ever on a new ledger",
    checks=("observers-saw-exactly-the-commits",),
    parts=lambda: {"registry": _SaysNothing},
)
