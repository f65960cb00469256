"""The ledger's memory: the committed tasks, their delivery states and the indexes derived from them.

It is only a cache: every record was committed, or was read from the store. Tasks are kept in the order of their
insertion. A batch works on a draft over it (`ledger.cache.draft`), so uncommitted changes never get in here.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec import UNSET, UnsetType

from tornpage.ledger.disk.rows import DELIVERIES, Quarantined, Unreadable
from tornpage.ledger.records import DeliveryState, Task
from tornpage.ledger.rules.indexes import Indexes
from tornpage.ledger.stores.store import Change, Snapshot, View

_RecordT = TypeVar("_RecordT")


class Memory:
    """Tasks and delivery states by task id, in insertion order, with their indexes."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        given = snapshot if snapshot is not None else Snapshot({}, {})
        self.tasks: dict[str, Task] = dict(given.tasks)
        self.deliveries: dict[str, DeliveryState] = dict(given.deliveries)
        self.quarantined: tuple[Quarantined, ...] = tuple(given.quarantined)
        self._indexes: Indexes | None = None
        self._positions: dict[str, int] | None = None
        self._next_position = 0

    @property
    def indexes(self) -> Indexes:
        """The indexes of the tasks; built at first use, which keeps a restore as fast as reading the rows."""
        if self._indexes is None:
            self._indexes = Indexes.rebuild(self.tasks.values())
        return self._indexes

    def apply(self, change: Change) -> Task | None:
        """Apply a change; returns the previous record of the task in memory."""
        previous = self.tasks.get(change.task_id)
        if change.task is None:
            if previous is not None:
                del self.tasks[change.task_id]
                if self._positions is not None:
                    del self._positions[change.task_id]
                if self._indexes is not None:
                    self._indexes.remove(previous)
        elif change.task is not UNSET:
            if previous is None and self._positions is not None:
                self._positions[change.task_id] = self._next_position
                self._next_position += 1
            self.tasks[change.task_id] = change.task
            if self._indexes is not None:
                self._indexes.add(change.task)
        if change.delivery is None:
            self.deliveries.pop(change.task_id, None)
            self.quarantined = without_state_of(change.task_id, self.quarantined)
        elif change.delivery is not UNSET:
            self.deliveries[change.task_id] = change.delivery
        return previous

    def snapshot(self) -> Snapshot:
        """The current state, as a separate snapshot."""
        return Snapshot(dict(self.tasks), dict(self.deliveries), self.quarantined)

    def in_order(self, task_ids: Iterable[str]) -> list[Task]:
        """The tasks with these ids, in insertion order."""
        return [self.tasks[task_id] for task_id in self.sorted_ids(task_ids)]

    def sorted_ids(self, task_ids: Iterable[str]) -> list[str]:
        """These ids of existing tasks, in insertion order."""
        if self._positions is None:
            # Computed only when needed: many ledgers are opened for one change without any query.
            self._positions = {task_id: i for i, task_id in enumerate(self.tasks)}
            self._next_position = len(self.tasks)
        return sorted(task_ids, key=self._positions.__getitem__)


def readable(view: View, records: Mapping[str, _RecordT], table: str, task_id: str) -> _RecordT | None:
    """The record of a task among those of a view, or None. Raises `Unreadable` if its row can't be read."""
    found = records.get(task_id)
    if found is None and any((one.table, one.key) == (table, task_id) for one in view.quarantined):
        raise Unreadable(f"{table} {task_id!r} can't be read")
    return found


def without_state_of(task_id: str, quarantined: tuple[Quarantined, ...]) -> tuple[Quarantined, ...]:
    """The quarantine after the delivery state of a task was deleted, which may have been unreadable."""
    if not quarantined:
        return quarantined
    return tuple(one for one in quarantined if (one.table, one.key) != (DELIVERIES.name, task_id))


def apply_all(snapshot: Snapshot, changes: Iterable[Change]) -> Snapshot:
    """The state after some changes, as a separate snapshot."""
    tasks, deliveries = dict(snapshot.tasks), dict(snapshot.deliveries)
    for change in changes:
        _put(tasks, change.task_id, change.task)
        _put(deliveries, change.task_id, change.delivery)
    return Snapshot(tasks, deliveries, tuple(snapshot.quarantined))


def _put(records: dict[str, _RecordT], task_id: str, record: _RecordT | UnsetType | None) -> None:
    if record is None:
        records.pop(task_id, None)
    elif not isinstance(record, UnsetType):
        records[task_id] = record
