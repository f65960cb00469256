"""fence-not-synced: after a failed COMMIT the ledger says `unchanged`, and a power cut brings the change back."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tornpage.ledger.disk.database import Database
from tornpage.scenarios.model.target import Action, Configuration, Target
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug
from tornpage.scenarios.targets.reference.target import Reference


class _Unsynced(Database):
    """Writes its fence at the connection's own synchronous level, so that at NORMAL it is never synced."""

    @contextlib.contextmanager
    def _synced(self, connection: Any) -> Iterator[None]:  # noqa: ARG002 - what is overridden looks at it
        yield


# An update writes so little that each of its faults is tried before a crash.
FENCED_CALLS = (
    CREATE,
    *(Action("tasks.set_delivery_status", {"task_id": "a", "status": status}) for status in ("delivered", "failed")),
)


def _at_normal(name: str) -> Target:
    target = Reference(name, calls=FENCED_CALLS, database=_Unsynced)
    target.configurations = (Configuration("wal", "NORMAL"),)
    return target


BUG = KnownBug(
    name="fence-not-synced",
    source="our own ledger until 0.2, found by tornpage crash",
    defect="a write fails, its caller is told that nothing changed, and after a power cut the refused change is there",
    checks=("failed-write-changed-nothing",),
    make=_at_normal,
    searches=("crash",),
    budget=3_000,
)
