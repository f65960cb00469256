"""delete-snapshot-not-projected: a store that only takes snapshots gets the map as it was before the delete."""

from collections.abc import Sequence

from ledger import TaskRegistry
from ledger.memory import apply_all
from ledger.store import Change, Snapshot
from ledger.stores import PlainBackend
from scenarios.bugs.build import KnownBug
from scenarios.targets.json_file import JsonFile


class _SavesTheLiveMap(PlainBackend):
    """Saves what memory has, which still has the task."""

    def project(self, view: Snapshot, changes: Sequence[Change]) -> Snapshot:
        """The state as it will be, deletes left out."""
        return apply_all(view, [change for change in changes if change.task is not None])


class _Registry(TaskRegistry):
    """A registry over such a fallback."""

    plain_backend = _SavesTheLiveMap


BUG = KnownBug(
    name="delete-snapshot-not-projected",
    source="openclaw PR 88008, review (b)",
    defect="the snapshot that a delete saves still has the deleted task: it comes back on reload",
    checks=("no-resurrection", "memory-equals-disk"),
    make=lambda name: JsonFile(name, registry=_Registry),
    searches=("sweep",),
)
