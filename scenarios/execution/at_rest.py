"""A reader that finds a database locked reads again once nothing else works: a lock that is held then was left behind.

A connection that closes in WAL mode asks for the whole file for a moment, and keeps new readers out meanwhile (SQLite's
``os_unix.c``: the PENDING lock stays until it unlocks). So does a commit with a rollback journal. A store's own
thread, or a program, may do either after its call has returned.

A store's own threads may also write after their call has returned. What they do then belongs to this call: the harness
looks once they sleep (`others_rest`), and faults of the call are armed until then. So it is with an opening: a thread
that it begins may open the connection.

Not covered: a thread that never sleeps is waited for only for a second, and after a call a tenth of one; where the
system does not report what threads do, nothing is waited for.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from tornpage.faults.contention.idle import POLL_S, Quiet, is_alone, is_reported, real_monotonic, real_sleep, until_idle
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.call_timeout import has_threads_of_the_store
from tornpage.scenarios.model.target import Session
from tornpage.scenarios.targets.process import ProcessSession

_PATIENCE_S: Final = 1.0
_AFTER_A_CALL_S: Final = 0.1

Read = TypeVar("Read")


def read_at_rest(read: Callable[[], Read], session: Session | None) -> Read:
    """What `read` returns. If it finds the database locked, it is called again once all other threads sleep.

    These are the threads of this process, and of the program that has the `session`. Raises what `read` raises.
    """
    try:
        return read()
    except sqlite3.OperationalError as error:
        is_locked = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        if not is_locked or not _others_come_to_rest(session):
            raise
    return read()


def _others_come_to_rest(session: Session | None) -> bool:
    """Wait until they sleep, or for a second; False if there are none."""
    others = [] if is_alone() else [Quiet()]
    if isinstance(session, ProcessSession):
        others.append(Quiet(session.program.pid))
    if not others or not is_reported():
        return False
    until = real_monotonic() + _PATIENCE_S
    while not all(other.lasts() for other in others) and real_monotonic() < until:
        real_sleep(POLL_S)
    return True


def others_rest() -> None:
    """Wait until the store's own threads sleep, at most for a tenth of a second; only in the main thread."""
    mine = threading.main_thread()
    if threading.current_thread() is not mine or not has_threads_of_the_store() or not is_reported():
        return
    until_idle(_AFTER_A_CALL_S)
