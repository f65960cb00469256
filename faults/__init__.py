"""Fault injection for any SQLite store: real errors raised by SQLite itself, beneath unmodified code.

Start with `install` and `arm`::

    with faults.install(), faults.arm("write:wal@1=FULL") as armed:
        ...  # code that uses sqlite3; its first write to a WAL fails

`FaultPlan` is the grammar, `possibilities` the catalogue of what can really happen.
"""

from faults.arming import Armed, arm, causes, count_operations, install
from faults.catalogue import Possibility, effects_of, possibilities, reason_for, require_possible
from faults.errors import (
    FaultError,
    ImpossibleFaultError,
    NotInstalledError,
    PlanError,
    ShimUnavailableError,
)
from faults.injector import SHM_RELEASE, Firing, Injector, OnPath, OperationCounter, PlanInjector
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

__all__ = [
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
    "When",
    "arm",
    "causes",
    "count_operations",
    "effects_of",
    "install",
    "possibilities",
    "reason_for",
    "require_possible",
    "shim_for",
]
