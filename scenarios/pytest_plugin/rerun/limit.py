"""A limit on the time of a run: code that waits for ever under a fault gets a verdict.

SIGALRM ends it, again and again until the run has given up; the exception is none that ``except Exception`` catches. A
timer that was set before (by pytest-timeout, say) rings in its own time: its handler is called as it would have been,
and the limit stays. Not covered: systems without SIGALRM, runs outside the main thread, and a single statement that
stays inside SQLite.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

_AGAIN_AFTER_S: Final = 0.5
_SOON_S: Final = 0.001


class TookTooLongError(BaseException):
    """The run took longer than it may."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise `TookTooLongError` in this scope once so many seconds are over."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    timer = _Timer(seconds)
    timer.start()
    try:
        yield
    finally:
        timer.stop()


class _Timer:
    """The one timer that a process has, shared with whoever had set it before."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self._live = True
        self._outer_handler: Any = signal.SIG_DFL
        self._outer_at: float | None = None
        self._outer_interval = 0.0

    def start(self) -> None:
        """Set it."""
        self._outer_handler = signal.signal(signal.SIGALRM, self._ring)
        remaining, self._outer_interval = signal.setitimer(signal.ITIMER_REAL, 0)
        if remaining and callable(self._outer_handler):
            self._outer_at = time.monotonic() + remaining
        self._set_again()

    def stop(self) -> None:
        """Have it as it was before."""
        self._live = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer_handler)
        if self._outer_at is not None:
            remaining = max(self._outer_at - time.monotonic(), _SOON_S)
            signal.setitimer(signal.ITIMER_REAL, remaining, self._outer_interval)

    def _set_again(self) -> None:
        due = self._ends_at if self._outer_at is None else min(self._ends_at, self._outer_at)
        signal.setitimer(signal.ITIMER_REAL, max(due - time.monotonic(), _SOON_S), _AGAIN_AFTER_S)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self._live:
            return
        now = time.monotonic()
        if self._outer_at is not None and now >= self._outer_at:
            self._outer_at = now + self._outer_interval if self._outer_interval else None
            self._set_again()
            self._outer_handler(number, frame)
            return
        if now >= self._ends_at:
            raise TookTooLongError(f"still running after {self._seconds:g} s (--tornpage-timeout)")
        self._set_again()
