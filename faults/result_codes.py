"""What the ``sqlite3`` module raises for a result code: class, message, ``sqlite_errorcode``, ``sqlite_errorname``.

The statement depth raises without SQLite having failed, so the exception must be the one that the module would have
made. The classes follow ``_pysqlite_seterror`` in CPython's ``Modules/_sqlite/util.c``, the messages
``sqlite3ErrStr`` in SQLite's ``main.c``. Not covered: the detail that SQLite adds to some messages (the name of the
locked table, say), because it belongs to a real failure.
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

# SQLite rolls the whole transaction back by itself for these: ``isSpecialError`` in ``sqlite3VdbeHalt``. With a
# statement journal NOMEM and FULL may undo only the statement, which nothing above SQLite can foresee.
_ROLL_BACK: Final = frozenset({"IOERR", "FULL", "NOMEM"})


def primary_name(effect: str) -> str:
    """The primary result name of an extended one: IOERR for IOERR_FSYNC."""
    return effect.split("_", maxsplit=1)[0]


def rolls_back(effect: str, *, writes: bool) -> bool:
    """Whether SQLite ends the transaction by itself when a statement fails like this.

    `writes` matters for INTERRUPT only: an interrupted read leaves the transaction open.
    """
    primary = primary_name(effect)
    return primary in _ROLL_BACK or (primary == "INTERRUPT" and writes)


def error_for(fault: Fault, module: ModuleType = sqlite3) -> BaseException:
    """A new exception, the one that `module` raises when SQLite answers with the fault's code."""
    primary = primary_name(fault.effect)
    if fault.effect == KILL:
        return SystemExit(KILL)  # Nobody will see it.
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
    """End this process as the out-of-memory killer would; where SIGKILL is unknown, as abruptly as there is."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
