"""The exception that ``sqlite3`` raises for a result code: class, message, ``sqlite_errorcode``, ``sqlite_errorname``.

The statement depth raises although SQLite has not failed, so the exception must equal the one that the module would
raise. The classes follow ``_pysqlite_seterror`` in CPython's ``Modules/_sqlite/util.c``, the messages
``sqlite3ErrStr`` in SQLite's ``main.c``. Not covered: details that SQLite adds to some messages (such as the name of a
locked table), because they belong to a real failure.
"""

import os
import signal
from types import ModuleType
from typing import Any, Final

from tornpage.faults.plan import KILL, RESULT_CODES, Fault
from tornpage.faults.sqlite_library import sqlite3

_CLASSES: Final = {
    "INTERNAL": "InternalError",
    "NOTFOUND": "InternalError",
    **dict.fromkeys(
        ("ERROR", "PERM", "ABORT", "BUSY", "LOCKED", "READONLY", "INTERRUPT", "IOERR", "FULL", "CANTOPEN", "PROTOCOL",
         "EMPTY", "SCHEMA"), "OperationalError",
    ),
    "TOOBIG": "DataError",
    "CONSTRAINT": "IntegrityError",
    "MISMATCH": "IntegrityError",
    "MISUSE": "InterfaceError",
    "RANGE": "InterfaceError",
}  # fmt: skip

_MESSAGES: Final = {
    "ERROR": "SQL logic error",
    "PERM": "access permission denied",
    "ABORT": "query aborted",
    "BUSY": "database is locked",
    "LOCKED": "database table is locked",
    "NOMEM": "out of memory",
    "READONLY": "attempt to write a readonly database",
    "INTERRUPT": "interrupted",
    "IOERR": "disk I/O error",
    "CORRUPT": "database disk image is malformed",
    "NOTFOUND": "unknown operation",
    "FULL": "database or disk is full",
    "CANTOPEN": "unable to open database file",
    "PROTOCOL": "locking protocol",
    "SCHEMA": "database schema has changed",
    "TOOBIG": "string or blob too big",
    "CONSTRAINT": "constraint failed",
    "MISMATCH": "datatype mismatch",
    "MISUSE": "bad parameter or other API misuse",
    "AUTH": "authorization denied",
    "RANGE": "column index out of range",
    "NOTADB": "file is not a database",
}

# For these SQLite itself rolls back the whole transaction: ``isSpecialError`` in ``sqlite3VdbeHalt``. With a statement
# journal NOMEM and FULL may undo only the statement; code above SQLite can't predict that.
_ROLL_BACK: Final = frozenset({"IOERR", "FULL", "NOMEM"})


def primary_name(effect: str) -> str:
    """The primary name of an extended result: IOERR for IOERR_FSYNC."""
    return effect.split("_", maxsplit=1)[0]


def rolls_back(effect: str, *, writes: bool) -> bool:
    """Whether SQLite itself rolls back the transaction when a statement fails with this result.

    `writes` matters for INTERRUPT only: an interrupted read leaves the transaction open.
    """
    primary = primary_name(effect)
    return primary in _ROLL_BACK or (primary == "INTERRUPT" and writes)


def error_for(fault: Fault, module: ModuleType = sqlite3) -> BaseException:
    """A new exception like the one that `module` raises when SQLite returns the fault's code."""
    primary = primary_name(fault.effect)
    if fault.effect == KILL:
        return SystemExit(KILL)  # Never raised: the process is killed before.
    if primary == "NOMEM":
        # PyErr_NoMemory: no message, no code.
        return MemoryError()
    kind: type[BaseException] = getattr(module, _CLASSES.get(primary, "DatabaseError"))
    message = "abort due to ROLLBACK" if fault.effect == "ABORT_ROLLBACK" else _MESSAGES.get(primary, "unknown error")
    error: Any = kind(message)
    # A module that does not know the extended names (pysqlite3) reports primary codes only.
    name = fault.effect if hasattr(module, f"SQLITE_{fault.effect}") else primary
    error.sqlite_errorcode = RESULT_CODES[name]
    error.sqlite_errorname = f"SQLITE_{name}"
    return error  # type: ignore[no-any-return]  # Any only so that the two attributes can be set


def die() -> None:
    """Kill this process as the out-of-memory killer would; with SIGTERM on a system without SIGKILL."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
