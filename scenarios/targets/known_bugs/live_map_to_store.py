"""live-map-to-store: the store is handed the registry's own map, and keeps it."""

from collections.abc import Sequence

from tornpage.ledger import DeliveryState, Task, TaskRegistry
from tornpage.ledger.cache.plain import PlainBackend
from tornpage.ledger.stores.store import Change, Snapshot, TaskStore
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.libraries.json_file import JsonFile


class _HandsOutItsMap(PlainBackend):
    """Changes the one map that there is and hands it to the store."""

    def __init__(self, store: TaskStore) -> None:
        super().__init__(store)
        self._tasks: dict[str, Task] = {}
        self._deliveries: dict[str, DeliveryState] = {}

    def project(self, view: Snapshot, changes: Sequence[Change]) -> Snapshot:
        """The state as it will be, in the maps that the store got the last time."""
        wanted = super().project(view, changes)
        self._tasks.clear()
        self._tasks.update(wanted.tasks)
        self._deliveries.clear()
        self._deliveries.update(wanted.deliveries)
        return Snapshot(self._tasks, self._deliveries, wanted.quarantined)


class _Registry(TaskRegistry):
    """A registry over such a fallback."""

    plain_backend = _HandsOutItsMap


BUG = KnownBug(
    name="live-map-to-store",
    source="openclaw PR 56927, review",
    defect="the snapshot that a store was handed changes under its hands with every later change of memory",
    checks=("snapshot-is-a-copy",),
    make=lambda name: JsonFile(name, registry=_Registry),
    searches=("sweep",),
)
