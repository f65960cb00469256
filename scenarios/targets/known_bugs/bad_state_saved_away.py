"""bad-state-saved-away: a snapshot saved to SQLite deletes the delivery states that can't be read."""

from pathlib import Path
from typing import Any
from unittest import mock

from tornpage.ledger.disk.database import Database
from tornpage.ledger.stores import SqliteStore
from tornpage.ledger.stores.store import Change, Snapshot
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug, OfOneScript
from tornpage.scenarios.targets.reference.lives import other_stores
from tornpage.scenarios.targets.reference.scripts.calls import call, create, within
from tornpage.scenarios.targets.reference.session import ReferenceSession


class _SavesWhatItShows(SqliteStore):
    """Makes the rows equal to the snapshot, also those that no snapshot can have."""

    def save_snapshot(self, snapshot: Snapshot) -> None:
        with self._own_unit() as unit:
            for task_id, task in snapshot.tasks.items():
                unit.write(Change(task_id, task=task, delivery=snapshot.deliveries.get(task_id)))


class _Session(ReferenceSession):
    def _do_stores_life(self, **how: Any) -> Any:
        stores = {"sqlite": lambda directory: _SavesWhatItShows(Database.open(directory))}
        with mock.patch.dict(other_stores._STORES, stores):
            return other_stores.life_of_a_store(self._place[0] / "other-stores", self._clock, **how)


class _Target(OfOneScript):
    """The build, whose one script is the life of a ledger on such a store."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger."""
        return _Session(directory, configuration, environment, {})


_SPOILED = {"table": "task_delivery_state", "key": "a", "column": "requester_origin", "value": "{"}
_CALLS = (
    create("a", requester_origin={"a": 1}), call("spoiled_row", **_SPOILED), call("tasks.restore"), CREATE,
    create("b"), call("tasks.restore"), call("tasks.quarantined"),
)  # fmt: skip
_LACKS = ["upsert_task", "upsert_task_with_delivery"]
_LIFE = {"kind": "sqlite", "lacks": _LACKS, "calls": [within(one) for one in _CALLS]}

BUG = KnownBug(
    name="bad-state-saved-away",
    source="our own ledger, found by reading it against its specification",
    defect="what a newer version has written about the requester of a task is gone after a change of another task",
    checks=("as-specified",),
    make=lambda name: _Target(name, (Action("stores.life", _LIFE),)),
    searches=("sweep",),
)
