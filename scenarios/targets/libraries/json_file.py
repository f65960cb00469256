"""The ledger's tasks in one JSON file: a store without SQLite, whose faults and crash states are those of plain files.

Configuration ``file/FULL``.
"""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis.strategies import SearchStrategy

from tornpage.ledger import IllegalTransition, Ledger, NotFound, StoreError, TaskRegistry, UsageError
from tornpage.ledger.stores.json_snapshot import JsonSnapshotStore
from tornpage.ledger.stores.store import Snapshot
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, Session, Target, View
from tornpage.scenarios.targets.reference.draws.strategies import draw_tasks
from tornpage.scenarios.targets.reference.workload import HEARTBEAT, TASKS

_FILE: Final = "tasks.json"


class _Keeping:
    """A store that keeps the snapshots it was passed, as one in memory would, and detects when they change."""

    def __init__(self, store: JsonSnapshotStore) -> None:
        self._store = store
        self._kept: list[tuple[Snapshot, Snapshot]] = []

    def load_snapshot(self) -> Snapshot:
        return self._store.load_snapshot()

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._kept.append((snapshot, Snapshot(dict(snapshot.tasks), dict(snapshot.deliveries))))
        self._store.save_snapshot(snapshot)

    def check(self) -> None:
        for handed, then in self._kept:
            if (handed.tasks, handed.deliveries) != (then.tasks, then.deliveries):
                raise Violation("snapshot-is-a-copy", "a snapshot that the store was handed has changed since")


class _JsonSession:
    """A ledger over a snapshot store; an action is a method of its tasks."""

    def __init__(self, store: JsonSnapshotStore, environment: Environment, registry: type[TaskRegistry]) -> None:
        self._next_id = "unnamed"
        self._store = _Keeping(store)
        self.ledger = Ledger.open(
            store=self._store, registry=registry, clock=environment.clock, new_id=lambda: self._next_id
        )
        self.tasks = self.ledger.tasks

    def call(self, action: Action) -> None:
        args = dict(action.args)
        self._next_id = args.pop("id", "unnamed")
        try:
            result = getattr(self.tasks, action.name.removeprefix("tasks."))(**args)
        except (IllegalTransition, NotFound, UsageError) as refusal:
            raise Refused(str(refusal)) from refusal
        if not getattr(result, "cancelled", True):
            raise Refused(result.reason)

    def live_view(self) -> View:
        view: dict[str, Any] = {}
        for task in self.tasks.list():
            view[f"task/{task.task_id}"] = msgspec.to_builtins(task)
            delivery = self.tasks.get_delivery(task.task_id)
            if delivery is not None:
                view[f"delivery/{task.task_id}"] = msgspec.to_builtins(delivery)
        return view

    def outcome_of(self, error: Exception) -> str | None:
        return error.outcome if isinstance(error, StoreError) else None

    def self_check(self) -> None:
        self._store.check()

    def close(self) -> None:
        self.ledger.close()


class JsonFile(Target):
    """Target: tasks over a `JsonSnapshotStore`, or over a build of it with a defect."""

    name = "json-file"
    title = "the ledger's tasks in one JSON file, without SQLite"
    configurations: tuple[Configuration, ...] = (Configuration("file", "FULL"),)
    depths: tuple[str, ...] = ("vfs",)
    unpromised: Mapping[str, str] = {}
    # Without the ledger's other parts there is nothing to cancel.
    refuses: frozenset[str] = frozenset({"tasks.cancel"})

    def __init__(
        self,
        name: str = "json-file",
        store: type[JsonSnapshotStore] = JsonSnapshotStore,
        registry: type[TaskRegistry] = TaskRegistry,
    ) -> None:
        self.name = name
        self._store = store
        self._registry = registry

    def workload(self) -> tuple[Action, ...]:
        """The calls of the reference that change tasks, one at a time."""
        return tuple(action for action in TASKS if action.name != "batch")

    def actions(self, view: View) -> SearchStrategy[Action]:
        """Changes of tasks."""
        return draw_tasks(view)

    def heartbeat(self) -> Action:
        """One more task."""
        return HEARTBEAT

    def database(self, directory: Path) -> Path:
        """There is none; this is where it would be."""
        return directory / "none.sqlite"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:  # noqa: ARG002 - one configuration
        """Restore the registry from the file."""
        return _JsonSession(self._store(directory / _FILE), environment, self._registry)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """Never called: see `files_view`."""
        raise NotImplementedError

    def files_view(self, directory: Path) -> View:
        """The state in the file, read as JSON and nothing else."""
        file = directory / _FILE
        if not file.exists():
            return {}
        document = json.loads(file.read_bytes())
        view = {f"task/{task['task_id']}": task for task in document["tasks"]}
        return view | {f"delivery/{state['task_id']}": state for state in document["deliveries"]}
