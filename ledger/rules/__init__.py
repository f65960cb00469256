"""The rules of the task ledger, as functions without I/O: creation, changes, and the choice of tasks.

A façade: creation and duplicates are in `creation`, the state machine in `transitions`, the order of times in `times`,
choosing and sorting in `lookup`. The registry handles transactions, memory and observers.
"""

from tornpage.ledger.rules.creation import (
    NewTask,
    default_delivery_status,
    default_notify_policy,
    find_match,
    merge,
    merge_delivery,
    new_task,
    outcome_of,
)
from tornpage.ledger.rules.lookup import by_preference, find_by_token, newest_first, select_for_run
from tornpage.ledger.rules.times import LOST_RETENTION_MS, RETENTION_MS, cleanup_time, ordered
from tornpage.ledger.rules.transitions import (
    allowed_next,
    finish,
    progress,
    start,
    terminal_status,
    with_delivery_status,
    with_notify_policy,
)

__all__ = [
    "LOST_RETENTION_MS",
    "RETENTION_MS",
    "NewTask",
    "allowed_next",
    "by_preference",
    "cleanup_time",
    "default_delivery_status",
    "default_notify_policy",
    "find_by_token",
    "find_match",
    "finish",
    "merge",
    "merge_delivery",
    "new_task",
    "newest_first",
    "ordered",
    "outcome_of",
    "progress",
    "select_for_run",
    "start",
    "terminal_status",
    "with_delivery_status",
    "with_notify_policy",
]
