"""The connections that this process has open on a store's files: what a store does not say of itself.

Found among the objects that Python's garbage collector knows. Not covered: connections of other libraries, and what
only their own thread may ask of them.
"""

import contextlib
import gc
import os
from pathlib import Path
from typing import Any

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3


def connections_on(directory: Path) -> list[sqlite3.Connection]:
    """The open connections on a database below a directory that this thread may use."""
    below = os.path.realpath(directory) + os.sep
    # By type, since to ask an object for its class may run its code.
    all_of_them: list[Any] = [one for one in gc.get_objects() if issubclass(type(one), sqlite3.Connection)]
    return [one for one in all_of_them if _is_below(one, below)]


def _is_below(connection: sqlite3.Connection, below: str) -> bool:
    try:
        return any(str(file or "").startswith(below) for file in _answers(connection, "database_list", column=2))
    except (sqlite3.Error, MemoryError):
        return False


def leaves_a_transaction(directory: Path) -> bool:
    """Whether a transaction is open on a connection that is not always in one, as with ``autocommit=False``."""
    return any(
        connection.in_transaction and getattr(connection, "autocommit", True) is not False
        for connection in connections_on(directory)
    )


def autocheckpoints(directory: Path) -> list[int]:
    """After how many pages of log each open connection checkpoints by itself; 0: never."""
    return [
        int(pages)
        for connection in connections_on(directory)
        for pages in _answers(connection, "wal_autocheckpoint", column=0)
    ]


def of_an_open_transaction(error: BaseException | None, directory: Path) -> str:
    """What to add to a finding after an error of memory that has left a transaction open; "" where it has not."""
    if error is None:
        return ""
    of_memory = [one for one in faults.causes(error) if _is_of_memory(one)]
    if not of_memory or not any(connection.in_transaction for connection in connections_on(directory)):
        return ""
    why = "ROLLBACK had no memory either: " if len(of_memory) > 1 else ""
    return (
        f"; {why}the transaction is still open on its connection, and shows there what was never committed; a "
        "connection that can't roll back is to be given up: close it, and open another"
    )


def _is_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOMEM


def _answers(connection: sqlite3.Connection, pragma: str, *, column: int) -> list[Any]:
    """One column of what a PRAGMA answers, past every subclass and row factory."""
    cursor = sqlite3.Cursor(connection)
    with contextlib.closing(cursor):
        cursor.row_factory = None
        return [row[column] for row in cursor.execute(f"PRAGMA {pragma}").fetchall()]
