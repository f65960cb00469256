"""The reference ledger: durable tasks on SQLite, whose memory, disk and answers agree whatever fails.

It knows nothing of faults and of tests; what its harness needs (the connection function, the clock, the ids, the
store, the registry class) is handed in when it is opened.
"""

from ledger.audit import AuditCode, AuditReport, Finding, Severity
from ledger.clock import Clock, system_clock
from ledger.errors import (
    IllegalTransition,
    LedgerError,
    NotFound,
    StoreBusy,
    StoreConstraint,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreIOError,
    StoreMemoryError,
    StoreReadOnly,
    StoreSchemaNewer,
    StoreTooOld,
    StoreUnavailable,
    UsageError,
)
from ledger.history import RunHistory
from ledger.ledger import Ledger
from ledger.maintenance import MaintenanceReport
from ledger.records import (
    TERMINAL,
    DeliveryState,
    DeliveryStatus,
    NotifyPolicy,
    Runtime,
    ScopeKind,
    Status,
    Task,
    TerminalOutcome,
)
from ledger.recovery import Recovered
from ledger.registry import CancelResult, TaskRegistry
from ledger.rows import Quarantined
from ledger.rules import NewTask
from ledger.runs import Run, RunStatus, Session
from ledger.store import Snapshot, TaskStore
from ledger.workers import Worker, Workers

__all__ = [
    "TERMINAL",
    "AuditCode",
    "AuditReport",
    "CancelResult",
    "Clock",
    "DeliveryState",
    "DeliveryStatus",
    "Finding",
    "IllegalTransition",
    "Ledger",
    "LedgerError",
    "MaintenanceReport",
    "NewTask",
    "NotFound",
    "NotifyPolicy",
    "Quarantined",
    "Recovered",
    "Run",
    "RunHistory",
    "RunStatus",
    "Runtime",
    "ScopeKind",
    "Session",
    "Severity",
    "Snapshot",
    "Status",
    "StoreBusy",
    "StoreConstraint",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreIOError",
    "StoreMemoryError",
    "StoreReadOnly",
    "StoreSchemaNewer",
    "StoreTooOld",
    "StoreUnavailable",
    "Task",
    "TaskRegistry",
    "TaskStore",
    "TerminalOutcome",
    "UsageError",
    "Worker",
    "Workers",
    "system_clock",
]
