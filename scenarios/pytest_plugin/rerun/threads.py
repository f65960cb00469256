"""Threads that a run starts: which of them it leaves behind, and how none of them keeps pytest from ending.

A fault that cuts a test short may leave a thread waiting forever: of a driver such as aiosqlite, of a pool, of the code
under test. Inside a run under a fault every thread is therefore started as a daemon, which the interpreter does not
wait for at its end. It would still wait for those of ``concurrent.futures``; they are removed from its list once they
are found to be left behind. Not covered: threads that are not started by ``threading``.
"""

import contextlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from tornpage.faults.locks import live_threads

_GRACE_S: Final = 0.5


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


@contextlib.contextmanager
def dying_of(is_injected: Callable[[BaseException], bool]) -> Iterator[None]:
    """Threads that end by the injected fault are not reported: pytest would warn of each of them, at each point."""
    report = threading.excepthook

    def unless_injected(args: Any) -> None:
        if args.exc_value is None or not is_injected(args.exc_value):
            report(args)

    threading.excepthook = unless_injected
    try:
        yield
    finally:
        threading.excepthook = report


class Threads:
    """Finds the threads that a run leaves behind; one for all runs of a test."""

    def __init__(self) -> None:
        # Kinds of thread that did not end in time: they are not waited for again.
        self._lasting: set[str] = set()

    def left_behind(self, before: set[threading.Thread]) -> list[threading.Thread]:
        """Those that did not exist before, and have not ended after a moment."""
        deadline = time.monotonic() + _GRACE_S
        left = []
        for thread in live_threads():
            if thread in before or thread is threading.current_thread():
                continue
            if kind_of(thread) not in self._lasting:
                thread.join(max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                self._lasting.add(kind_of(thread))
                left.append(thread)
        return left


def kind_of(thread: threading.Thread) -> str:
    """The name of a thread without its numbers: ``Thread-7 (work)`` and ``Thread-8 (work)`` are of one kind."""
    return re.sub(r"\d+", "N", thread.name)


def do_not_wait_for(thread: threading.Thread) -> None:
    """Have the interpreter not wait for a worker of ``concurrent.futures`` at its end."""
    pools: Any = sys.modules.get("concurrent.futures.thread")
    with contextlib.suppress(AttributeError, KeyError):
        del pools._threads_queues[thread]
