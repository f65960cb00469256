"""A limit on the time of a run: code that waits for ever under a fault gets a verdict.

SIGALRM ends it, again and again until the run has given up; the exception is none that ``except Exception`` catches. A
timer that was set before (by pytest-timeout, say) goes on afterwards. Not covered: systems without SIGALRM, runs
outside the main thread, and a single statement that stays inside SQLite.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final

_AGAIN_AFTER_S: Final = 0.5


class TookTooLongError(BaseException):
    """The run took longer than it may."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise `TookTooLongError` in this scope once so many seconds are over."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    live = True

    def too_long(_number: int, _frame: FrameType | None) -> None:
        if live:
            raise TookTooLongError(f"still running after {seconds:g} s (--faults-timeout)")

    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, too_long)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_AFTER_S)
    try:
        yield
    finally:
        live = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - began), 0.001), interval)
