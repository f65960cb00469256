"""delete-snapshot-not-projected: a store that only takes snapshots gets the map as it was before the delete."""

from collections.abc import Sequence

from tornpage.ledger import TaskRegistry
from tornpage.ledger.cache.memory import apply_all
from tornpage.ledger.cache.plain import PlainBackend
from tornpage.ledger.stores.store import Change, Snapshot
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.libraries.json_file import JsonFile


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
