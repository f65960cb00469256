"""A store that sleeps in a call, to try again later: nothing else is at work meanwhile, so it takes no real time.

Method. While a call is made, ``time.sleep`` moves a clock and returns at once, and ``time.monotonic`` tells the time
that would have passed. So a store that waits for a minute and then gives up is not taken for one that never returns,
and a store that would have slept for more than an hour is.

Where a thread or a child process of the store's is alive it may be that one that is waited for: then the sleep is real.
Where somebody else has put a clock of theirs in the place (`faults.waiting_in_virtual_time`, for rivals), it stays.

Not covered: code that took ``sleep`` or ``monotonic`` out of the module before, and ``time.time``.
"""

import contextlib
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any, Final

from tornpage.faults.child_processes import has_others
from tornpage.faults.locks import live_threads

_MOST_S: Final = 3600.0
_sleep, _monotonic = time.sleep, time.monotonic
_time: Any = time


class _Clock:
    def __init__(self, others: Collection[threading.Thread], too_long: BaseException) -> None:
        self.has_slept_too_long = False
        self._caller = threading.current_thread()
        self._others = {self._caller, *others}
        self._sleeps = 0
        self._has_child = False
        self._too_long = too_long
        self._skipped_s = 0.0

    def sleep(self, seconds: float) -> None:
        # The real one refuses what is no time.
        if not seconds >= 0 or threading.current_thread() is not self._caller or not self._is_alone():
            _sleep(seconds)
            return
        self._skipped_s += seconds
        if self._skipped_s > _MOST_S:
            self.has_slept_too_long = True
            raise self._too_long

    def _is_alone(self) -> bool:
        # To look for children may take milliseconds, and a store may sleep thousands of times.
        self._sleeps += 1
        if self._sleeps.bit_count() == 1:
            self._has_child = has_others()
        return not self._has_child and not any(thread not in self._others for thread in live_threads())

    def monotonic(self) -> float:
        return _monotonic() + self._skipped_s


@contextlib.contextmanager
def no_real_sleep(others: Collection[threading.Thread], too_long: BaseException) -> Iterator[None]:
    """Let sleep take no time in this scope; raises `too_long` where that would have been too much of it.

    `others` are threads that were there before the store, and don't work for it.
    """
    if time.sleep is not _sleep:
        yield
        return
    clock = _Clock(others, too_long)
    _time.sleep, _time.monotonic = clock.sleep, clock.monotonic
    try:
        yield
    finally:
        _time.sleep, _time.monotonic = _sleep, _monotonic
    if clock.has_slept_too_long:
        # The store has swallowed it.
        raise too_long


def is_alone(others: Collection[threading.Thread]) -> bool:
    """Whether no thread but `others`, and no child process but the harness's own, could be at work now."""
    return not any(thread not in others for thread in live_threads()) and not has_others()
