"""Whether another user of a database with a rollback journal can write between the calls: ``lets-others-write``.

Method. Without a fault, before the first call and after each, another connection begins an exclusive transaction on
each such database, and ends it without a change. It fails while a connection of the store holds a lock: a cursor that
was not read to its end, or a transaction that was left open. In WAL mode these keep no writer out (see `log_growth`).

A store may have a transaction open between two calls on purpose (`begin`, `put`, `commit`): while its own connections
say so, nothing is judged before the last call. Not judged at all: connections with ``autocommit=False`` or
``locking_mode=EXCLUSIVE``, which keep their locks by definition.

Not covered: databases that only a connection of another thread, or a program, has attached; and transactions of
programs, which are judged after the last call only.
"""

import contextlib
from pathlib import Path

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.generic_checks.open_connections import (
    databases_below,
    leaves_a_transaction,
    locks_for_good,
)
from tornpage.scenarios.model.judging.checks import Violation

_CURSOR = "a read of the store has not ended, such as a cursor that was not read to its end"
_TRANSACTION = "a transaction of the store is still open"


def require_open_to_writers(database: Path, *, is_last: bool) -> None:
    """Raise `Violation` if a connection of the store keeps other writers out; `is_last`: after the last call."""
    directory = database.parent
    in_a_transaction = leaves_a_transaction(directory)
    if locks_for_good(directory) or (in_a_transaction and not is_last):
        return
    for path in dict.fromkeys([database, *databases_below(directory)]):
        _require_open(path, in_a_transaction=in_a_transaction)


def _require_open(database: Path, *, in_a_transaction: bool) -> None:
    if not database.exists():
        return
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        if not _is_locked(connection, "EXCLUSIVE") or _uses_a_log(connection):
            return
        reads = not in_a_transaction and not _is_locked(connection, "IMMEDIATE")
    raise Violation(
        "lets-others-write",
        f"with no call at work, another connection can't write to {database.name}: database is locked, for as long as "
        f"the process runs: {_CURSOR if reads else _TRANSACTION}",
    )


def _uses_a_log(connection: sqlite3.Connection) -> bool:
    try:
        return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")
    except sqlite3.OperationalError:
        # It can't be read at all; readers report that.
        return True


def _is_locked(connection: sqlite3.Connection, mode: str) -> bool:
    """Whether another connection keeps it from a transaction of that mode; any other error is not judged here."""
    try:
        connection.execute(f"BEGIN {mode}")
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    connection.execute("ROLLBACK")
    return False
