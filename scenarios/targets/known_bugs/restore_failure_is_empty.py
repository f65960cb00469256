"""restore-failure-is-empty: a restore that fails counts as an empty ledger."""

from tornpage.ledger import StoreError, TaskRegistry
from tornpage.ledger.stores.store import Snapshot
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _Empty(TaskRegistry):
    """Takes a store that can't be read for one that has nothing in it."""

    def _load(self) -> tuple[object, Snapshot]:
        try:
            return super()._load()
        except StoreError:
            return self.backend.version(), Snapshot({}, {})


BUG = KnownBug(
    name="restore-failure-is-empty",
    source="openclaw issue 105031",
    defect="a failed restore counts as an empty ledger; later writes overwrite durable rows",
    checks=("memory-equals-disk",),
    parts=lambda: {"registry": _Empty},
    calls=(CREATE,),
    searches=("sweep",),
)
