"""One task and one message, of which tests change what matters to them."""

from typing import Any

from msgspec.structs import replace

from tornpage.ledger.outbox import Outbox
from tornpage.ledger.records import DeliveryStatus, NotifyPolicy, Runtime, ScopeKind, Status, Task

T0 = 1_700_000_000_000
"""When a test begins, in milliseconds since the epoch."""
TASK = Task(
    task_id="task-1",
    runtime=Runtime.CLI,
    requester_session_key="owner",
    owner_key="owner",
    scope_kind=ScopeKind.SESSION,
    task="compile",
    status=Status.RUNNING,
    delivery_status=DeliveryStatus.PENDING,
    notify_policy=NotifyPolicy.DONE_ONLY,
    created_at=1_000,
)


def a_task(task_id: str, **changes: object) -> Task:
    """The task under another id, with these fields changed."""
    return replace(TASK, task_id=task_id, **changes)


def queued(outbox: Outbox, **fields: Any) -> Any:
    """Put a message into the outbox."""
    return outbox.enqueue(**{"channel": "mail", "target": "me", "payload": {"text": "hi"}, **fields})
