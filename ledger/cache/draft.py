"""The view of an open batch: its changes, as an overlay over the committed memory.

The committed memory is only read and never copied: the cost of a batch depends on its changes and not on the size of
the ledger. For every query a draft returns the same as a `Memory` that had applied the same changes.

Not covered: changes of the memory beneath. A draft is discarded with its batch, and no other commit happens meanwhile.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec import UnsetType

from tornpage.ledger.cache.memory import Memory, without_state_of
from tornpage.ledger.disk.rows import Quarantined
from tornpage.ledger.records import DeliveryState, Task
from tornpage.ledger.rules.indexes import Indexes
from tornpage.ledger.stores.store import Change, Snapshot

_RecordT = TypeVar("_RecordT")


class _Overlay(Mapping[str, _RecordT]):
    """Records by task id, some of them changed; in insertion order, so a deleted and re-created record is last."""

    def __init__(self, beneath: Mapping[str, _RecordT]) -> None:
        self._beneath = beneath
        self._gone: set[str] = set()
        self._replaced: dict[str, _RecordT] = {}
        self.added: dict[str, _RecordT] = {}

    def put(self, task_id: str, record: _RecordT) -> None:
        """Replace a record, or add it."""
        is_in_place = task_id in self._beneath and task_id not in self._gone
        (self._replaced if is_in_place else self.added)[task_id] = record

    def drop(self, task_id: str) -> None:
        """Remove a record; no error if there is none."""
        self.added.pop(task_id, None)
        if task_id in self._beneath:
            self._replaced.pop(task_id, None)
            self._gone.add(task_id)

    def __getitem__(self, task_id: str) -> _RecordT:
        for changed in (self.added, self._replaced):
            if task_id in changed:
                return changed[task_id]
        if task_id in self._gone:
            raise KeyError(task_id)
        return self._beneath[task_id]

    def __iter__(self) -> Iterator[str]:
        yield from (task_id for task_id in self._beneath if task_id not in self._gone)
        yield from self.added

    def __len__(self) -> int:
        return len(self._beneath) - len(self._gone) + len(self.added)


class _DraftIndexes(Indexes):
    """The look-ups of a memory, with separate entries for the tasks that the draft has touched."""

    def __init__(self, beneath: Memory, touched: Mapping[str, Task | None]) -> None:
        super().__init__()
        self._memory = beneath
        self._touched = touched
        for task in touched.values():
            if task is not None:
                self.add(task)

    def by_run(self, run_id: str) -> frozenset[str]:
        """Ids of the tasks of this run."""
        return self._untouched(self._memory.indexes.by_run(run_id)) | super().by_run(run_id)

    def by_owner(self, owner_key: str) -> frozenset[str]:
        """Ids of the tasks of this owner."""
        return self._untouched(self._memory.indexes.by_owner(owner_key)) | super().by_owner(owner_key)

    def by_parent_flow(self, parent_flow_id: str) -> frozenset[str]:
        """Ids of the tasks of this flow."""
        found = self._memory.indexes.by_parent_flow(parent_flow_id)
        return self._untouched(found) | super().by_parent_flow(parent_flow_id)

    def by_session(self, session_key: str) -> frozenset[str]:
        """Ids of the tasks whose owner or whose child session this is."""
        return self._untouched(self._memory.indexes.by_session(session_key)) | super().by_session(session_key)

    def snapshot(self) -> dict[str, dict[str, frozenset[str]]]:
        """All four look-ups as plain values; this one iterates over all tasks."""
        own, beneath = super().snapshot(), self._memory.indexes.snapshot()
        merged: dict[str, dict[str, frozenset[str]]] = {}
        for name, index in beneath.items():
            kept = {key: self._untouched(ids) | own[name].get(key, frozenset()) for key, ids in index.items()}
            merged[name] = {key: ids for key, ids in {**own[name], **kept}.items() if ids}
        return merged

    def _untouched(self, task_ids: frozenset[str]) -> frozenset[str]:
        return task_ids.difference(self._touched)


class Draft:
    """The contents of a `Memory` after the batch commits; see `ledger.stores.store.View`."""

    def __init__(self, beneath: Memory) -> None:
        self._beneath = beneath
        self._tasks = _Overlay(beneath.tasks)
        self._deliveries = _Overlay(beneath.deliveries)
        self._quarantined = beneath.quarantined
        self._touched: dict[str, Task | None] = {}
        self._indexes: _DraftIndexes | None = None

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by id, in the order of their insertion."""
        return self._tasks

    @property
    def deliveries(self) -> Mapping[str, DeliveryState]:
        """The delivery states by task id."""
        return self._deliveries

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """As in the memory beneath, since a batch reloads no rows, but for deleted delivery states."""
        return self._quarantined

    @property
    def indexes(self) -> Indexes:
        """The look-ups with the changes of the batch; built at first use."""
        if self._indexes is None:
            self._indexes = _DraftIndexes(self._beneath, self._touched)
        return self._indexes

    def apply(self, change: Change) -> None:
        """Apply a change of the batch."""
        _lay(self._tasks, change.task_id, change.task)
        _lay(self._deliveries, change.task_id, change.delivery)
        if change.delivery is None:
            self._quarantined = without_state_of(change.task_id, self._quarantined)
        if isinstance(change.task, UnsetType):
            return
        self._touched[change.task_id] = change.task
        if self._indexes is not None and change.task is not None:
            self._indexes.add(change.task)
        elif self._indexes is not None:
            self._indexes.forget(change.task_id)

    def snapshot(self) -> Snapshot:
        """The state after the batch, as a separate snapshot."""
        return Snapshot(dict(self._tasks), dict(self._deliveries), self.quarantined)

    def in_order(self, task_ids: Iterable[str]) -> list[Task]:
        """The tasks with these ids, in insertion order."""
        added = self._tasks.added
        wanted = set(task_ids)
        earlier = self._beneath.sorted_ids(wanted.difference(added))
        return [self._tasks[task_id] for task_id in (*earlier, *(one for one in added if one in wanted))]


def _lay(overlay: "_Overlay[_RecordT]", task_id: str, record: _RecordT | UnsetType | None) -> None:
    if record is None:
        overlay.drop(task_id)
    elif not isinstance(record, UnsetType):
        overlay.put(task_id, record)
