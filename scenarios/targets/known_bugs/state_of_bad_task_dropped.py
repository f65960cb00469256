"""state-of-bad-task-dropped: a save of the JSON snapshot leaves out the delivery state of a task that can't be read."""

from pathlib import Path
from typing import Any
from unittest import mock

from tornpage.ledger.stores.json_snapshot import JsonSnapshotStore
from tornpage.ledger.stores.store import Snapshot
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session
from tornpage.scenarios.targets.known_bugs.build import KnownBug, OfOneScript
from tornpage.scenarios.targets.reference.lives import other_stores
from tornpage.scenarios.targets.reference.session import ReferenceSession

_TASK = {
    "task_id": "a", "runtime": "cli", "requester_session_key": "me", "owner_key": "me", "scope_kind": "session",
    "task": "work", "status": "of a newer version", "delivery_status": "pending", "notify_policy": "done_only",
    "created_at": 5,
}  # fmt: skip


class _KeepsTheTaskOnly(JsonSnapshotStore):
    """Keeps what it could not read by itself, and no more."""

    def load_snapshot(self) -> Snapshot:
        loaded = super().load_snapshot()
        tasks, states = self._unreadable
        self._unreadable = tasks, [one for one in states if isinstance(one, dict)]
        return loaded


class _Session(ReferenceSession):
    def _do_open_snapshot(self, **how: Any) -> Any:
        with mock.patch.object(other_stores, "JsonSnapshotStore", _KeepsTheTaskOnly):
            return other_stores.opened_snapshot(self._place[0] / "snapshots", self._clock, **how)


class _Target(OfOneScript):
    """The build, whose store opens a snapshot of a newer version."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger; snapshots are opened by the build's store."""
        return _Session(directory, configuration, environment, {})


# A task that can't be read, and its delivery state, which can.
_DOCUMENT = {"version": 1, "tasks": [_TASK], "deliveries": [{"task_id": "a"}]}

BUG = KnownBug(
    name="state-of-bad-task-dropped",
    source="our own ledger, found by reading it against its specification",
    defect="once the task can be read again, its requester is never told: the delivery state is gone from the file",
    checks=("as-specified",),
    make=lambda name: _Target(name, (Action("open.snapshot", {"document": _DOCUMENT}),)),
    searches=("sweep",),
)
