"""The connections that this process has open on a store's files, which the store does not expose.

Found through Python's garbage collector, of every binding that is loaded. Whether a transaction is open is known of a
connection of another thread, too (aiosqlite has one for each), but not of which database it is. Not covered: bindings
whose connections it doesn't track (pysqlite3 0.6, sqlean 3.50: only their subclasses are found), and PRAGMAs that only
a connection's own thread may run.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tornpage import faults
from tornpage.faults.garbage import living
from tornpage.faults.reach.bindings import code_of, connection_classes, imported, result_code, sqlite_errors
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.unpromised import NO_MEMORY_EITHER

CANNOT_ROLL_BACK: Final = "a connection that can't roll back must be replaced: close it, and open another"
"""What the message of a finding says whose cause is that a transaction could not be rolled back for lack of memory."""

STILL_OPEN: Final = "a transaction is still open, neither committed nor rolled back"
"""What the message of a finding says where a transaction is open, whatever the cause."""


def connections_on(directory: Path) -> list[Any]:
    """The open connections on a database below a directory that this thread may use."""
    return [one for one in _all_connections() if _is_below(one, directory)]


def _all_connections() -> list[Any]:
    classes = connection_classes()
    return living(lambda kind: issubclass(kind, classes))


def _is_below(connection: Any, directory: Path, *, elsewhere: bool = False) -> bool:
    """Whether its database is below a directory; `elsewhere`: the answer for one that only another thread may ask."""
    below = os.path.realpath(directory) + os.sep
    try:
        return any(str(file or "").startswith(below) for file in _answers(connection, "database_list", column=2))
    except MemoryError:
        return False
    except sqlite_errors() as error:
        return elsewhere and "same thread" in str(error)


def _are_in_a_transaction(directory: Path) -> list[Any]:
    """The connections that have a transaction open, on a database below a directory or in another thread."""
    waiting = [one for one in _all_connections() if _has_begun(one)]
    return [one for one in waiting if _is_below(one, directory, elsewhere=True)]


def _has_begun(connection: Any) -> bool:
    # One that has been closed, or not been opened yet, may not be asked.
    with contextlib.suppress(*sqlite_errors()):
        return bool(connection.in_transaction)
    return False


def leaves_a_transaction(directory: Path) -> bool:
    """Whether a transaction is open on a connection that is not always in one, as with ``autocommit=False``."""
    return not all(map(_is_always_in_one, _are_in_a_transaction(directory)))


def _is_always_in_one(connection: Any) -> bool:
    """Whether it has ``autocommit=False``; one of another thread may not be asked, and counts as one that has not."""
    with contextlib.suppress(*sqlite_errors()):
        return getattr(connection, "autocommit", True) is False
    return False


def locks_for_good(directory: Path) -> bool:
    """Whether a connection keeps its locks by its own settings: ``autocommit=False``, or an exclusive locking mode.

    One in a transaction that only its own thread may ask counts as such where Python has that `autocommit`.
    """
    if any(_is_always_in_one(one) or _may_not_be_asked(one) for one in _are_in_a_transaction(directory)):
        return True
    return any(
        "exclusive" in _answers(connection, f'"{name}".locking_mode', column=0)
        for connection in connections_on(directory)
        for name in _answers(connection, "database_list", column=1)
    )


def _may_not_be_asked(connection: Any) -> bool:
    try:
        getattr(connection, "autocommit", None)
    except sqlite_errors():
        return True
    return False


def databases_below(directory: Path) -> list[Path]:
    """The files below a directory that connections of this thread have open, also attached ones."""
    below = os.path.realpath(directory) + os.sep
    files = [
        str(file or "")
        for connection in connections_on(directory)
        for file in _answers(connection, "database_list", column=2)
    ]
    return [Path(file) for file in files if file.startswith(below)]


def setting_of_each(directory: Path, pragma: str) -> list[int]:
    """The number that a PRAGMA has on each open connection."""
    return [
        int(number) for connection in connections_on(directory) for number in _answers(connection, pragma, column=0)
    ]


@contextlib.contextmanager
def naming_open_transactions(note: Callable[[], str]) -> Iterator[None]:
    """Add to a violation in this scope that a transaction is open, if one is: then `note` returns what to add."""
    try:
        yield
    except Violation as violation:
        if more := note():
            raise violation.with_message(violation.message + more) from violation.__cause__
        raise


def of_any_open_transaction(directory: Path) -> str:
    """The note on a finding where a transaction is open; "" if none is."""
    return f"; {STILL_OPEN}" if leaves_a_transaction(directory) else ""


def of_an_open_transaction(error: BaseException | None, directory: Path) -> str:
    """The note on a finding after a memory error that has left a transaction open; "" if it has not."""
    if error is None:
        return ""
    of_memory = [one for one in faults.causes(error) if _is_of_memory(one)]
    if not of_memory or not _are_in_a_transaction(directory):
        return ""
    why = f"{NO_MEMORY_EITHER}: " if len(of_memory) > 1 else ""
    still = "the transaction is still open on its connection, and shows uncommitted changes there"
    advice = CANNOT_ROLL_BACK if why else f"roll back after such an error; {CANNOT_ROLL_BACK}"
    return f"; {why}{still}; {advice}"


def _is_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or result_code(error) == sqlite3.SQLITE_NOMEM


def _answers(connection: Any, pragma: str, *, column: int) -> list[Any]:
    """One column of a PRAGMA's result, bypassing every subclass, row factory, row trace, and texts read as bytes."""
    code = next(code for code in map(code_of, imported()) if isinstance(connection, code.Connection))
    cursor = code.Cursor(connection)
    with contextlib.closing(cursor):
        setattr(cursor, "row_factory" if hasattr(cursor, "row_factory") else "row_trace", None)
        found = [row[column] for row in cursor.execute(f"PRAGMA {pragma}").fetchall()]
    return [os.fsdecode(one) if isinstance(one, bytes) else one for one in found]
