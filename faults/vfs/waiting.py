"""Listeners for a thread that waits in virtual time: in SQLite's busy handler, or in ``time.sleep``.

A schedule of two callers registers one here, and lets the other caller run.
"""

import threading
from collections.abc import Callable

# They are called with what is waited for: a "lock", or a "sleep".
by_thread: dict[int, Callable[[str], None]] = {}
# The listener for every thread that is not in `by_thread`; at most one element.
anywhere: list[Callable[[str], None]] = []


def notify(for_what: str) -> None:
    """Notify the listener that the current thread waits; returns when the thread may try again."""
    listener = by_thread.get(threading.get_ident(), anywhere[-1] if anywhere else None)
    if listener is not None:
        listener(for_what)


def is_heard() -> bool:
    """Whether a listener lets others run while the current thread waits."""
    return threading.get_ident() in by_thread or bool(anywhere)
