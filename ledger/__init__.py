"""The reference ledger: durable tasks on SQLite, whose memory, disk and answers agree whatever fails.

It contains no code for faults or tests: the caller of `Ledger.open` passes in the connection function, the clock, the
id function, the store and the registry class.
"""

from tornpage.ledger.clock import Clock, system_clock
from tornpage.ledger.disk.rows import Quarantined
from tornpage.ledger.errors import (
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
from tornpage.ledger.history import RunHistory
from tornpage.ledger.ledger import Ledger
from tornpage.ledger.records import (
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
from tornpage.ledger.recovery import Recovered
from tornpage.ledger.registry import CancelResult, TaskRegistry
from tornpage.ledger.rules import NewTask
from tornpage.ledger.runs import Run, RunStatus, Session
from tornpage.ledger.stores.store import Snapshot, TaskStore
from tornpage.ledger.upkeep.audit import AuditCode, AuditReport, Finding, Severity
from tornpage.ledger.upkeep.maintenance import MaintenanceReport
from tornpage.ledger.workers import Worker, Workers

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
