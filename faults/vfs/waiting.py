"""Who is told that a thread waits, in virtual time: in SQLite's busy handler, or in ``time.sleep``.

A schedule of two callers is told of it, and lets the other one go on.
"""

import threading
from collections.abc import Callable

by_thread: dict[int, Callable[[], None]] = {}
# For a thread that is not in there; the one element, where there is one.
anywhere: list[Callable[[], None]] = []


def tell() -> None:
    """The present thread waits: return when it may try again."""
    told = by_thread.get(threading.get_ident(), anywhere[-1] if anywhere else None)
    if told is not None:
        told()
