"""What a known bug is: a defect put back into the reference by exchanging one class, and what must notice it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ledger import TaskRegistry
from ledger.store import Change, Unit
from scenarios.targets.reference import Reference


@dataclass(frozen=True)
class KnownBug:
    """A build with one defect.

    `source` is where it was reported; `defect` what a user saw; `parts` the arguments of `Ledger.open` that put it
    back; `checks` the codes of which one must be the first finding; `searches` the ways of search that reach it;
    `budget` the most fault points a sweep, or steps a machine, may take.
    """

    name: str
    source: str
    defect: str
    checks: tuple[str, ...]
    parts: Callable[[], dict[str, Any]]
    searches: tuple[str, ...] = ("sweep", "fuzz")
    budget: int = 2_000

    def target(self) -> Reference:
        """The build as a target."""
        return Reference(f"bug:{self.name}", **self.parts())


class MemoryFirst(TaskRegistry):
    """Changes memory before the write that may throw, for the changes that `too_early` names, and never mends it."""

    def too_early(self, change: Change) -> bool:
        """Whether memory takes this change before the store has it."""
        raise NotImplementedError

    def _persist(self, unit: Unit, change: Change) -> None:
        if self.too_early(change):
            self._adopt(change)
        super()._persist(unit, change)

    def settled(self, found: Sequence[Change] | None) -> None:
        """After a COMMIT that failed, leave alone what memory took too early."""
        early = {change.task_id for change in self._pending if self.too_early(change)}
        super().settled(found and [change for change in found if change.task_id not in early])
