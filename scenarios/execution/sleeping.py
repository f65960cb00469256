"""Virtual sleep: a store that sleeps in a call, to try again later, takes no real time, since nothing else runs.

Method. While a call is made, ``time.sleep`` advances a clock and returns at once, and ``time.monotonic`` includes that
time. So a store that waits for a minute and then gives up is not taken for one that never returns, and a store that
would have slept for more than an hour is.

If a thread or a child process of the store is alive, the store may be waiting for it: then the sleep is real. If
another virtual clock is installed (`faults.waiting_in_virtual_time`, for rivals), it stays.

Not covered: code that imported ``sleep`` or ``monotonic`` by name before, and ``time.time``.
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
        # The real one rejects an argument that is not a time.
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
    """Let sleep take no time in this scope; raises `too_long` if it would have taken too much.

    `others` are threads that existed before the store, and don't work for it.
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
    """Whether no thread but `others`, and no child process but the harness's own, could be running now."""
    return not any(thread not in others for thread in live_threads()) and not has_others()
