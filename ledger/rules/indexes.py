"""Which tasks belong to a run, an owner, a flow or a session: four look-ups derived from the rows.

An index is derived entirely from the rows: `Indexes.rebuild(tasks)` equals the index that was updated task by
task, and the harness compares the two. Keys are trimmed, blank ones are not indexed, a key without tasks is dropped.
Related session means the owner's key or the child session's (openclaw pull request 57361).

The ids are returned as sets: the insertion order, which breaks ties in lists, is kept with the tasks.
No locking here; the registry has one lock for memory and indexes together.
"""

from collections.abc import Iterable

from tornpage.ledger.records import Task
from tornpage.ledger.rules.values import blank_to_none

_Keys = tuple[str | None, str | None, str | None, str | None]
"""The run, owner, parent flow and child session of a task; None if it has no such key."""


_Index = dict[str, str | set[str]]
"""Ids of tasks by key. Most runs have a single task, whose id is stored without a set: that would be ten times as big.
"""


def _keys_of(task: Task) -> _Keys:
    return (
        blank_to_none(task.run_id),
        blank_to_none(task.owner_key),
        blank_to_none(task.parent_flow_id),
        blank_to_none(task.child_session_key),
    )


class Indexes:
    """Task ids by run id, owner key, parent flow id and related session.

    Adding a task again replaces its old keys, so an update needs no removal first. Two are equal if all four look-ups
    are equal.
    """

    __hash__ = None  # type: ignore[assignment]  # Equal by content and mutable, like a dict.

    def __init__(self) -> None:
        self._filed: dict[str, _Keys] = {}
        self._runs: _Index = {}
        self._owners: _Index = {}
        self._parent_flows: _Index = {}
        self._sessions: _Index = {}

    @classmethod
    def rebuild(cls, tasks: Iterable[Task]) -> "Indexes":
        """The indexes of exactly these tasks."""
        built = cls()
        for task in tasks:
            built.add(task)
        return built

    def add(self, task: Task) -> None:
        """Index a task under its keys, and remove its old keys."""
        keys = _keys_of(task)
        task_id = task.task_id
        known = self._filed.get(task_id)
        if known == keys:
            return
        if known is not None:
            self._unfile(task_id, known)
        self._filed[task_id] = keys
        run, owner, parent_flow, child = keys
        if run is not None:
            _file(self._runs, run, task_id)
        if owner is not None:
            _file(self._owners, owner, task_id)
            _file(self._sessions, owner, task_id)
        if parent_flow is not None:
            _file(self._parent_flows, parent_flow, task_id)
        if child is not None:
            _file(self._sessions, child, task_id)

    def remove(self, task: Task) -> None:
        """Remove a task from all keys; no error if it isn't indexed."""
        self.forget(task.task_id)

    def forget(self, task_id: str) -> None:
        """Remove the task with this id; no error if it isn't indexed."""
        known = self._filed.pop(task_id, None)
        if known is not None:
            self._unfile(task_id, known)

    def by_run(self, run_id: str) -> frozenset[str]:
        """Ids of the tasks of this run."""
        return self._ids(self._runs, run_id)

    def by_owner(self, owner_key: str) -> frozenset[str]:
        """Ids of the tasks of this owner."""
        return self._ids(self._owners, owner_key)

    def by_parent_flow(self, parent_flow_id: str) -> frozenset[str]:
        """Ids of the tasks of this flow."""
        return self._ids(self._parent_flows, parent_flow_id)

    def by_session(self, session_key: str) -> frozenset[str]:
        """Ids of the tasks whose owner or whose child session this is."""
        return self._ids(self._sessions, session_key)

    def snapshot(self) -> dict[str, dict[str, frozenset[str]]]:
        """All four look-ups as plain values, by the name of the key field (related_session for owner or child)."""
        indexes = {
            "run_id": self._runs,
            "owner_key": self._owners,
            "parent_flow_id": self._parent_flows,
            "related_session": self._sessions,
        }
        return {name: {key: _as_set(ids) for key, ids in index.items()} for name, index in indexes.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Indexes):
            return NotImplemented
        return self.snapshot() == other.snapshot()

    def __repr__(self) -> str:
        return f"Indexes({self.snapshot()!r})"

    def _unfile(self, task_id: str, keys: _Keys) -> None:
        run, owner, parent_flow, child = keys
        for index, key in (
            (self._runs, run),
            (self._owners, owner),
            (self._parent_flows, parent_flow),
            (self._sessions, owner),
            (self._sessions, child),
        ):
            ids = index.get(key) if key is not None else None
            # A session that is both owner and child is there only once.
            if key is None or ids is None:
                continue
            if isinstance(ids, set):
                ids.discard(task_id)
            if not ids or ids == task_id:
                del index[key]

    @staticmethod
    def _ids(index: _Index, key: str) -> frozenset[str]:
        wanted = blank_to_none(key)
        return _as_set(index.get(wanted, set())) if wanted is not None else frozenset()


def _file(index: _Index, key: str, task_id: str) -> None:
    ids = index.get(key)
    if ids is None:
        index[key] = task_id
    elif isinstance(ids, set):
        ids.add(task_id)
    elif ids != task_id:
        index[key] = {ids, task_id}


def _as_set(ids: str | set[str]) -> frozenset[str]:
    return frozenset((ids,) if isinstance(ids, str) else ids)
