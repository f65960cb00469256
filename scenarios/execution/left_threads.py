"""Threads that a store under test leaves behind don't keep the process from ending.

A fault that cuts a call short may leave a thread waiting forever: of a driver such as aiosqlite, of a pool, of the code
under test. Threads are therefore started as daemons, which the interpreter does not wait for at its end. It would still
wait for those of ``concurrent.futures``, which are removed from its list. Not covered: threads that are not started by
``threading``.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def daemons() -> Iterator[None]:
    """Threads that are started inside this scope don't keep the process from ending."""
    start = threading.Thread.start

    def start_as_daemon(thread: threading.Thread) -> None:
        if thread.ident is None and not thread.daemon:
            thread.daemon = True
        start(thread)

    setattr(threading.Thread, "start", start_as_daemon)  # noqa: B010 - mypy takes no assignment to a method
    try:
        yield
    finally:
        setattr(threading.Thread, "start", start)  # noqa: B010 - as above


def do_not_wait_for(thread: threading.Thread) -> None:
    """Have the interpreter not wait for a worker of ``concurrent.futures`` at its end."""
    pools: Any = sys.modules.get("concurrent.futures.thread")
    with contextlib.suppress(AttributeError, KeyError):
        del pools._threads_queues[thread]
