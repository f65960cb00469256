"""Fault injection for any SQLite store: real errors raised by SQLite itself, beneath unmodified code.

Start with `install` and `arm`::

    with faults.install(), faults.arm("write:wal@1=FULL") as armed:
        ...  # code that uses sqlite3; its first write to a WAL fails

Without the shim, on any platform: `StatementDepth`, `faulting_connect`, and `FaultingStore` round any store.

`FaultPlan` is the grammar, `possibilities` the catalogue of what can really happen.
"""

import tornpage.faults.sqlite_library  # noqa: F401 - before anything imports sqlite3
from tornpage.faults.catalogue import Possibility, effects_of, possibilities, reason_for, require_possible
from tornpage.faults.contention.kinds import RIVAL_KINDS, RivalKind, RivalPlace
from tornpage.faults.contention.process import kept_rival_process, shared_rival_process
from tornpage.faults.contention.rival import Rival, contend, is_busy
from tornpage.faults.contention.virtual_time import slept
from tornpage.faults.contention.virtual_time import virtual_time as waiting_in_virtual_time
from tornpage.faults.crash.crashes import Crash, State
from tornpage.faults.crash.device import Device
from tornpage.faults.crash.states import CrashStates
from tornpage.faults.errors import (
    AllocatorUnavailableError,
    FaultError,
    ImpossibleFaultError,
    NotInstalledError,
    PlanError,
    ShimUnavailableError,
    SubinterpreterError,
)
from tornpage.faults.injector import (
    BEGIN_LOCK,
    COMMIT_END,
    COMMIT_LOCK,
    SHM_RELEASE,
    STATEMENT_LOCK,
    STATEMENT_RISE,
    Firing,
    Injector,
    OnPath,
    OperationCounter,
    PlanInjector,
    UnreadablePart,
    operations_of,
)
from tornpage.faults.limits.connection import Connections, Interruption, PageLimit
from tornpage.faults.limits.limit import Limit
from tornpage.faults.limits.memory import (
    Allocator,
    FailedAllocation,
    HeapLimit,
    can_fail_allocations,
    can_limit_heap,
    exact_allocations,
    freeze,
    frozen,
)
from tornpage.faults.plan import (
    FILE_KINDS,
    KILL,
    KINDS,
    RESULT_CODES,
    ROLES,
    STATEMENT_KINDS,
    TIMINGS,
    VFS_KINDS,
    Fault,
    FaultPlan,
    When,
)
from tornpage.faults.reach.bindings import errors_of_the_code, result_code, sqlite_errors
from tornpage.faults.statement.depth import StatementDepth, faulting_connect, faulting_connection
from tornpage.faults.statement.faulting_store import FaultingStore
from tornpage.faults.vfs.arm import (
    Armed,
    arm,
    causes,
    connect_beside,
    connect_unwatched,
    count_operations,
    has_log_open,
    install,
    is_open,
    record,
    spare,
    unreadable,
    unseen,
)
from tornpage.faults.vfs.operation_log import Operation, Tape
from tornpage.faults.vfs.shim import Shim, shim_for
from tornpage.faults.vfs.shims import LibraryFacts, Shims, shims

__all__ = [
    "BEGIN_LOCK",
    "COMMIT_END",
    "COMMIT_LOCK",
    "FILE_KINDS",
    "KILL",
    "KINDS",
    "RESULT_CODES",
    "RIVAL_KINDS",
    "ROLES",
    "SHM_RELEASE",
    "STATEMENT_KINDS",
    "STATEMENT_LOCK",
    "STATEMENT_RISE",
    "TIMINGS",
    "VFS_KINDS",
    "Allocator",
    "AllocatorUnavailableError",
    "Armed",
    "Connections",
    "Crash",
    "CrashStates",
    "Device",
    "FailedAllocation",
    "Fault",
    "FaultError",
    "FaultPlan",
    "FaultingStore",
    "Firing",
    "HeapLimit",
    "ImpossibleFaultError",
    "Injector",
    "Interruption",
    "LibraryFacts",
    "Limit",
    "NotInstalledError",
    "OnPath",
    "Operation",
    "OperationCounter",
    "PageLimit",
    "PlanError",
    "PlanInjector",
    "Possibility",
    "Rival",
    "RivalKind",
    "RivalPlace",
    "Shim",
    "ShimUnavailableError",
    "Shims",
    "State",
    "StatementDepth",
    "SubinterpreterError",
    "Tape",
    "UnreadablePart",
    "When",
    "arm",
    "can_fail_allocations",
    "can_limit_heap",
    "causes",
    "connect_beside",
    "connect_unwatched",
    "contend",
    "count_operations",
    "effects_of",
    "errors_of_the_code",
    "exact_allocations",
    "faulting_connect",
    "faulting_connection",
    "freeze",
    "frozen",
    "has_log_open",
    "install",
    "is_busy",
    "is_open",
    "kept_rival_process",
    "operations_of",
    "possibilities",
    "reason_for",
    "record",
    "require_possible",
    "result_code",
    "shared_rival_process",
    "shim_for",
    "shims",
    "slept",
    "spare",
    "sqlite_errors",
    "unreadable",
    "unseen",
    "waiting_in_virtual_time",
]
