"""Threads that a run starts: which of them it leaves behind, and those that end by the injected fault."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from tornpage.faults.locks import live_threads

_GRACE_S: Final = 0.5


@contextlib.contextmanager
def dying_of(is_injected: Callable[[BaseException], bool]) -> Iterator[None]:
    """Threads that end by the injected fault are not reported: pytest would warn of each of them, at each point.

    Neither are those that have an answer for an event loop that is gone: the fault has ended the code that would have
    waited for it. pytest would hold the exception against whatever runs next.
    """
    report = threading.excepthook

    def unless_injected(args: Any) -> None:
        error = args.exc_value
        if error is None or not (is_injected(error) or _has_no_loop(error)):
            report(args)

    threading.excepthook = unless_injected
    try:
        yield
    finally:
        threading.excepthook = report


def _has_no_loop(error: BaseException) -> bool:
    """Whether an event loop of asyncio's or trio's had ended when a thread turned to it."""
    return type(error).__name__ == "RunFinishedError" or (
        isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
    )


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
