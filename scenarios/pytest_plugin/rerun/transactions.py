"""Whether a connection has a transaction open in which something could be lost.

In most modes ``in_transaction`` tells. With ``autocommit=False`` (Python 3.12) a transaction is always open: there only
one that has written counts, since an idle connection has one that is empty or has read. SQLite knows
(``sqlite3_txn_state``); if its functions are hidden, another connection requests the write lock instead, which is wrong
for a connection with ``locking_mode=EXCLUSIVE``.

If SQLite has rolled back by itself (a full disk, an I/O error) such a connection is left outside any transaction, and
Python begins none: the next statement commits by itself, and ``commit()`` raises. Setting ``autocommit`` again begins
one; see docs/autocommit-false.md.
"""

import contextlib
import ctypes
import functools
import importlib
from collections.abc import Callable
from typing import Any, Final

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3

_WRITES: Final = 2  # SQLITE_TXN_WRITE


def has_transaction(connection: sqlite3.Connection) -> bool:
    """Whether a transaction is open that is more than how this connection waits."""
    try:
        if not connection.in_transaction:
            return False
    except sqlite3.Error:
        return False
    return not is_always_in_one(connection) or _has_written(connection)


def is_always_in_one(connection: sqlite3.Connection) -> bool:
    """Whether it is one with ``autocommit=False``."""
    try:
        return getattr(connection, "autocommit", True) is False
    except sqlite3.Error:
        return False


def put_right(connection: sqlite3.Connection, *, may_roll_back: bool) -> None:
    """Have a connection that outlives a run wait as it did before it."""
    with contextlib.suppress(sqlite3.Error):
        if may_roll_back and has_transaction(connection):
            connection.rollback()
        if is_always_in_one(connection) and not connection.in_transaction:
            connection.autocommit = False  # type: ignore[attr-defined]  # it is there from Python 3.12 on


def _has_written(connection: sqlite3.Connection) -> bool:
    ask = _txn_state()
    if ask is None:
        return _is_write_locked(connection)
    # Every binding's connection begins with the C handle.
    handle = ctypes.c_void_p.from_address(id(connection) + object.__basicsize__).value
    return handle is not None and ask(handle, None) == _WRITES


@functools.cache
def _txn_state() -> Callable[[int, None], int] | None:
    """SQLite's own function, if it is exported and belongs to the library that serves ``sqlite3``."""
    try:
        module: Any = importlib.import_module("_sqlite3")
        library = ctypes.CDLL(module.__file__)
        ask, identify = library.sqlite3_txn_state, library.sqlite3_sourceid
    except (ImportError, AttributeError, OSError):
        return None
    identify.restype = ctypes.c_char_p
    ask.restype, ask.argtypes = ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        served = connection.execute("SELECT sqlite_source_id()").fetchone()[0]
    return ask if str(served).encode() == identify() else None


def elsewhere() -> list[str]:
    """The databases on which a connection of another binding than ``sqlite3`` has begun to write.

    No other binding reports its connections. So this tests whether the database would let another writer in.
    """
    own, *others = faults.shims().members
    paths = {path for shim in others if shim is not own for path in shim.open_databases()}
    return sorted(filter(_refuses_a_writer, paths))


def _is_write_locked(connection: sqlite3.Connection) -> bool:
    try:
        rows = sqlite3.Cursor(connection).execute("PRAGMA database_list").fetchall()
    except sqlite3.Error:
        return False
    return any(_refuses_a_writer(str(row[2])) for row in rows if row[2])


def _refuses_a_writer(path: str) -> bool:
    try:
        with contextlib.closing(faults.connect_unwatched(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    return False
