"""owed-save-forgotten: what a failed write has left is taken for safe as soon as any later write works."""

from collections.abc import Sequence

from tornpage.ledger import TaskRegistry
from tornpage.ledger.cache.plain import PlainBackend
from tornpage.ledger.stores.store import Change, Snapshot
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug, OnAnotherStore
from tornpage.scenarios.targets.reference.scripts.calls import create


class _PassesItAlone(PlainBackend):
    """Passes one change to the store alone, whatever else there is to secure."""

    def save(self, view: Snapshot, changes: Sequence[Change]) -> None:
        """Pass the changes to the store."""
        self.save_owed = False
        super().save(view, changes)


class _Registry(TaskRegistry):
    """A registry over that."""

    plain_backend = _PassesItAlone


_CALLS = (CREATE, create("b"), create("c"))
_FAILS = {"1": "twice after", "2": "securing"}

BUG = KnownBug(
    name="owed-save-forgotten",
    source="our own ledger, found by its model (a script of stores that fail twice)",
    defect="a task that the ledger shows is gone after a power cut: its store had failed, and was never saved whole",
    checks=("as-specified",),
    make=lambda name: OnAnotherStore(name, _Registry, _CALLS, fails=_FAILS),
    sound=lambda name: OnAnotherStore(name, TaskRegistry, _CALLS, fails=_FAILS),
    searches=("sweep",),
)
