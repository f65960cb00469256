"""Fault injection for any SQLite store: real errors raised by SQLite itself, beneath unmodified code.

Start with `install` and `arm`::

    with faults.install(), faults.arm("write:wal@1=FULL") as armed:
        ...  # code that uses sqlite3; its first write to a WAL fails

Without the shim, on any platform: `StatementDepth`, `faulting_connect`, and `FaultingStore` round any store.

`FaultPlan` is the grammar, `possibilities` the catalogue of what can really happen.
"""

from faults.arming import Armed, arm, causes, connect_unwatched, count_operations, install
from faults.catalogue import Possibility, effects_of, possibilities, reason_for, require_possible
from faults.errors import (
    FaultError,
    ImpossibleFaultError,
    NotInstalledError,
    PlanError,
    ShimUnavailableError,
)
from faults.injector import (
    BEGIN_LOCK,
    COMMIT_END,
    SHM_RELEASE,
    Firing,
    Injector,
    OnPath,
    OperationCounter,
    PlanInjector,
    operations_of,
)
from faults.plan import (
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
from faults.shim import Shim, shim_for
from faults.statement import StatementDepth, faulting_connect, faulting_connection
from faults.store import FaultingStore

__all__ = [
    "BEGIN_LOCK",
    "COMMIT_END",
    "KILL",
    "KINDS",
    "RESULT_CODES",
    "ROLES",
    "SHM_RELEASE",
    "STATEMENT_KINDS",
    "TIMINGS",
    "VFS_KINDS",
    "Armed",
    "Fault",
    "FaultError",
    "FaultPlan",
    "FaultingStore",
    "Firing",
    "ImpossibleFaultError",
    "Injector",
    "NotInstalledError",
    "OnPath",
    "OperationCounter",
    "PlanError",
    "PlanInjector",
    "Possibility",
    "Shim",
    "ShimUnavailableError",
    "StatementDepth",
    "When",
    "arm",
    "causes",
    "connect_unwatched",
    "count_operations",
    "effects_of",
    "faulting_connect",
    "faulting_connection",
    "install",
    "operations_of",
    "possibilities",
    "reason_for",
    "require_possible",
    "shim_for",
]
