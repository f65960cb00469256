"""Connections that a store has dropped without closing them.

``with sqlite3.connect(path) as connection`` commits and does not close, and from Python 3.11 on a connection refers to
itself: the garbage collector closes it, at any time. It may be in the middle of a later call, or after the files of the
next test have taken its files' place, and then SQLite deletes the log of those. So what a call has dropped is collected
at its end, and what a session has dropped when it is closed, where more databases are open than before.

A connection that is dropped in a transaction keeps its lock for as long as the collector lets it, and in a process that
is idle that is for ever. So that no luck decides whether the next call meets the lock, it is kept until the session
ends.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from tornpage import faults
from tornpage.faults.contention.idle import is_alone, until_idle
from tornpage.faults.garbage import collect, living
from tornpage.faults.sqlite_library import sqlite3

# For a thread that goes on.
_PATIENCE_S: Final = 1.0


@contextlib.contextmanager
def collected(kept: list[Any] | None = None) -> Iterator[None]:
    """Close at the end of this scope what was dropped in it.

    Connections in a transaction are added to `kept` instead, which the caller clears when the session ends; without it
    the session ends here, and they are closed, too.
    """
    shims = faults.shims()
    before, fails = shims.handles, False
    try:
        yield
    except BaseException:
        fails = True
        raise
    finally:
        if shims.handles > before:
            if kept is not None:
                kept += _young_transactions()
            # What the scope has made is young, and has to stay so: the frames of an error in flight still hold it, and
            # what survives a collection is found by a full one only. A scope further out collects it.
            if kept is None or not fails:
                collect(1)
            if kept is None and shims.handles > before:
                collect()
                closed_by_threads(before)


def closed_by_threads(before: int) -> None:
    """Wait until threads have closed what was dropped, and as many databases are open as `before`; or all are idle.

    A dropped connection that has a thread of its own, as aiosqlite's have, tells it to close, and does not wait.
    """
    if faults.shims().handles > before and not is_alone():
        until_idle(_PATIENCE_S, lambda: faults.shims().handles <= before)


def _young_transactions() -> list[Any]:
    """The connections that were made a short time ago and are in a transaction."""
    young = [*living(_is_connection, 0), *living(_is_connection, 1)]
    return [one for one in young if _is_in_transaction(one)]


def _is_connection(kind: type) -> bool:
    return issubclass(kind, sqlite3.Connection)


def _is_in_transaction(connection: sqlite3.Connection) -> bool:
    try:
        return connection.in_transaction
    except sqlite3.ProgrammingError:
        # It is closed.
        return False
