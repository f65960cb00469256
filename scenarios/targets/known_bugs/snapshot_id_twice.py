"""snapshot-id-twice: of two records with one id in a JSON snapshot, the first is lost at the next save."""

from pathlib import Path
from typing import Any
from unittest import mock

from tornpage.ledger.stores import json_snapshot
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session
from tornpage.scenarios.targets.known_bugs.build import KnownBug, OfOneScript
from tornpage.scenarios.targets.reference.lives.other_stores import opened_snapshot
from tornpage.scenarios.targets.reference.session import ReferenceSession

_TASK = {
    "task_id": "a", "runtime": "cli", "requester_session_key": "me", "owner_key": "me", "scope_kind": "session",
    "task": "work", "status": "queued", "delivery_status": "pending", "notify_policy": "done_only", "created_at": 5,
}  # fmt: skip


class _Session(ReferenceSession):
    def _do_open_snapshot(self, **how: Any) -> Any:
        # The ids are not counted.
        with mock.patch.object(json_snapshot, "Counter", lambda ids: dict.fromkeys(ids, 1)):
            return opened_snapshot(self._place[0] / "snapshots", self._clock, **how)


class _Target(OfOneScript):
    """The build, whose store opens a snapshot in which somebody has copied a record and changed the copy."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger; snapshots are opened by the build's store."""
        return _Session(directory, configuration, environment, {})


_DOCUMENT = {"version": 1, "tasks": [_TASK, {**_TASK, "task": "other work"}], "deliveries": []}

BUG = KnownBug(
    name="snapshot-id-twice",
    source="our own ledger, found by reading it against its specification",
    defect="a task that was in the snapshot is gone from the file, and nothing was said about it",
    checks=("as-specified",),
    make=lambda name: _Target(name, (Action("open.snapshot", {"document": _DOCUMENT}),)),
    searches=("sweep",),
)
