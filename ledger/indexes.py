"""Which tasks belong to a run, an owner, a flow or a session: four look-ups derived from the rows.

An index holds nothing that the rows don't say: `Indexes.rebuild(tasks)` equals the one that was kept up to date task by
task, and the harness compares the two. Keys are trimmed, blank ones are not indexed, a key without tasks is dropped.
Related session means the owner's key or the child session's (openclaw pull request 57361).

The ids come as sets: the order in which tasks were inserted, which breaks ties in lists, is kept where the tasks are.
No locking here; the registry has one lock for memory and indexes together.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledger.records import Task
from ledger.values import blank_to_none


class _Keys(NamedTuple):
    """Under which keys a task is filed; None where it has no such key."""

    run: str | None
    owner: str | None
    parent_flow: str | None
    child: str | None


def _keys_of(task: Task) -> _Keys:
    return _Keys(
        blank_to_none(task.run_id),
        blank_to_none(task.owner_key),
        blank_to_none(task.parent_flow_id),
        blank_to_none(task.child_session_key),
    )


class Indexes:
    """Task ids by run id, owner key, parent flow id and related session.

    Adding a task that is already in files it anew, so an update needs no removal first. Two are equal where all four
    look-ups are.
    """

    __hash__ = None  # type: ignore[assignment]  # Equal by content and mutable, like a dict.

    def __init__(self) -> None:
        self._filed: dict[str, _Keys] = {}
        self._runs: dict[str, set[str]] = {}
        self._owners: dict[str, set[str]] = {}
        self._parent_flows: dict[str, set[str]] = {}
        self._sessions: dict[str, set[str]] = {}

    @classmethod
    def rebuild(cls, tasks: Iterable[Task]) -> "Indexes":
        """The indexes of exactly these tasks."""
        built = cls()
        for task in tasks:
            built.add(task)
        return built

    def add(self, task: Task) -> None:
        """File a task under its keys, and no longer under those it had before."""
        keys = _keys_of(task)
        known = self._filed.get(task.task_id)
        if known == keys:
            return
        if known is not None:
            self._unfile(task.task_id, known)
        self._filed[task.task_id] = keys
        for index, key in self._places(keys):
            index.setdefault(key, set()).add(task.task_id)

    def remove(self, task: Task) -> None:
        """Forget a task, wherever it was filed; no error where it isn't in."""
        known = self._filed.pop(task.task_id, None)
        if known is not None:
            self._unfile(task.task_id, known)

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
        return {name: {key: frozenset(ids) for key, ids in index.items()} for name, index in indexes.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Indexes):
            return NotImplemented
        return self.snapshot() == other.snapshot()

    def __repr__(self) -> str:
        return f"Indexes({self.snapshot()!r})"

    def _places(self, keys: _Keys) -> Iterator[tuple[dict[str, set[str]], str]]:
        """Where a task with these keys is filed; a session that is both owner and child is named twice."""
        for index, key in (
            (self._runs, keys.run),
            (self._owners, keys.owner),
            (self._parent_flows, keys.parent_flow),
            (self._sessions, keys.owner),
            (self._sessions, keys.child),
        ):
            if key is not None:
                yield index, key

    def _unfile(self, task_id: str, keys: _Keys) -> None:
        for index, key in self._places(keys):
            ids = index.get(key)
            if ids is None:
                continue
            ids.discard(task_id)
            if not ids:
                del index[key]

    @staticmethod
    def _ids(index: dict[str, set[str]], key: str) -> frozenset[str]:
        wanted = blank_to_none(key)
        return frozenset(index.get(wanted, ())) if wanted is not None else frozenset()
