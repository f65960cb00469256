"""Virtual sleep: a store that sleeps in a call, to try again later, takes no real time, since nothing else runs.

Method. While a call is made, ``time.sleep`` advances a clock and returns at once, and ``time.monotonic``,
``time.perf_counter`` and ``time.time`` include that time. So a store that waits for a minute and then gives up is not
taken for one that never returns, and a store that would have slept for more than an hour is.

A wait with a time limit that nothing can end, such as for a job to come (``Condition.wait``, and so ``Event.wait`` and
``Queue.get``), is a sleep, too.

If a thread or a child process of the store is alive, the store may be waiting for it: then the sleep is real. If
another virtual clock is installed (`faults.waiting_in_virtual_time`, for rivals), it stays.

Not covered: functions of ``time`` that are bound elsewhere than in a module (`faults.clock_names`), and
``datetime.now``, unless the target is deterministic.
"""

import contextlib
import functools
import queue
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any, Final

from tornpage.faults import clock_names, forks
from tornpage.faults.child_processes import has_others
from tornpage.faults.locks import live_threads

_MOST_S: Final = 3600.0
_sleep = time.sleep
_CLOCKS: Final = tuple(f"{name}{unit}" for name in ("monotonic", "perf_counter", "time") for unit in ("", "_ns"))
_time: Any = time
_condition: Any = threading.Condition
# The modules in which limits are counted, and their names of the clock.
_OF_LIMITS: Final[tuple[tuple[Any, str], ...]] = ((threading, "_time"), (queue, "time"))


class _Clock:
    def __init__(self, others: Collection[threading.Thread], too_long: BaseException) -> None:
        self.has_slept_too_long = False
        self._caller = threading.current_thread()
        self._others = {self._caller, *others}
        self._forks = forks.depth()
        self._sleeps = 0
        self._has_child = False
        self._too_long = too_long
        self._skipped_s = 0.0
        self.before: dict[str, Any] = {name: getattr(time, name) for name in ("sleep", *_CLOCKS)}
        self.wait_before: Any = _condition.wait
        self.limits_before = [getattr(module, name) for module, name in _OF_LIMITS]

    def sleep(self, seconds: float) -> None:
        # The real one rejects an argument that is not a time.
        if not seconds >= 0 or threading.current_thread() is not self._caller or not self._is_alone():
            _sleep(seconds)
            clock_names.slept(seconds)
            return
        self._skipped_s += seconds
        clock_names.slept(seconds)
        if self._skipped_s > _MOST_S:
            self.has_slept_too_long = True
            raise self._too_long

    def wait(self, condition: threading.Condition, timeout: float | None = None) -> bool:
        """As ``Condition.wait``."""
        if not timeout or timeout <= 0 or threading.current_thread() is not self._caller or not self._is_alone():
            return bool(self.wait_before(condition, timeout))
        self.sleep(timeout)
        return bool(self.wait_before(condition, 0))

    def of_limits(self) -> float:
        """The time in which limits are counted; other threads wait in real time."""
        now: float = self.before["monotonic"]()
        return now + self._skipped_s if threading.current_thread() is self._caller else now

    def _is_alone(self) -> bool:
        if self._forks != forks.depth():
            return False
        # To look for children may take milliseconds, and a store may sleep thousands of times.
        self._sleeps += 1
        if self._sleeps.bit_count() == 1:
            self._has_child = has_others()
        return not self._has_child and not any(thread not in self._others for thread in live_threads())

    def read(self, name: str) -> float:
        is_told = name.startswith("time") and clock_names.stopped_clocks
        skipped: float = 0.0 if is_told else self._skipped_s
        now: float = self.before[name]()
        return now + round(skipped * 1_000_000_000) if name.endswith("_ns") else now + skipped


@contextlib.contextmanager
def no_real_sleep(others: Collection[threading.Thread], too_long: BaseException) -> Iterator[None]:
    """Let sleep take no time in this scope; raises `too_long` if it would have taken too much.

    `others` are threads that existed before the store, and don't work for it.
    """
    if time.sleep is not _sleep:
        yield
        return
    clock_names.follow()
    clock = _Clock(others, too_long)
    _time.sleep = clock.sleep
    _condition.wait = lambda condition, timeout=None: clock.wait(condition, timeout)
    for module, name in _OF_LIMITS:
        setattr(module, name, clock.of_limits)
    for name in _CLOCKS:
        setattr(time, name, functools.partial(clock.read, name))
    try:
        yield
    finally:
        for name, function in clock.before.items():
            setattr(time, name, function)
        _condition.wait = clock.wait_before
        for (module, name), function in zip(_OF_LIMITS, clock.limits_before, strict=True):
            setattr(module, name, function)
    if clock.has_slept_too_long:
        # The store has swallowed it.
        raise too_long


def is_alone(others: Collection[threading.Thread]) -> bool:
    """Whether no thread but `others`, and no child process but the harness's own, could be running now."""
    return not any(thread not in others for thread in live_threads()) and not has_others()
