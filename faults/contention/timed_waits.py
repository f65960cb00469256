"""Waits with a time limit: the limit passes in virtual time, once nothing else goes on.

Python's conditions, events, queues, semaphores, barriers and futures all wait in ``threading.Condition.wait``. A call
that waits there with a limit, such as for a job to come, returns when the limit has passed, and is no deadlock. If no
thread can notify it, the wait is a sleep. One of two callers that take turns waits for real, since the other one may
notify it; once all threads sleep and the other caller waits or has ended, `expire` ends the wait, and the clock
advances.

A limit for a lock itself, for the end of a thread, and for a ``queue.SimpleQueue`` is C code's, and passes in real
time; `has_a_limit` recognises such a wait.
"""

import contextlib
import dis
import functools
import queue
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, Final, Protocol

from tornpage.faults.locks import live_threads
from tornpage.faults.replaced import replaced
from tornpage.faults.vfs import waiting

_monotonic = time.monotonic


class Clock(Protocol):
    """A virtual clock."""

    def sleep(self, seconds: float) -> None:
        """Advance it."""

    def read(self, name: str) -> float:
        """The time of a function of ``time``."""


class _Wait:
    """One wait: its limit in seconds, and the lock that is released when it ends."""

    def __init__(self, limit_s: float, clock: Clock) -> None:
        self.limit_s = limit_s
        self.clock = clock
        self.until_s = clock.read("monotonic") + limit_s
        self.waiter = threading.Lock()
        self.waiter.acquire()
        self.has_expired = False

    @property
    def rest_s(self) -> float:
        """What is left of the limit, in seconds."""
        return max(self.until_s - self.clock.read("monotonic"), 0.0)


# By the id of the thread that waits.
_waits: Final[dict[int, _Wait]] = {}


def rest_of(thread: int | None) -> float | None:
    """After how many seconds the wait of a thread ends by itself; None if it does not wait with a limit."""
    wait = _waits.get(thread or 0)
    return None if wait is None else wait.rest_s


def expire(thread: int | None) -> None:
    """Let the limit of a thread's wait pass."""
    wait = _waits.get(thread or 0)
    if wait is None or wait.has_expired:
        return
    wait.has_expired = True
    wait.clock.sleep(wait.rest_s)
    # It may just have been notified.
    with contextlib.suppress(RuntimeError):
        wait.waiter.release()


def has_a_limit(frame: FrameType | None) -> bool:
    """Whether C code that this frame has called waits with a limit: an argument ``timeout`` by its name, or a join."""
    if frame is None:
        return False
    if frame.f_globals.get("__name__") == "threading":
        return frame.f_locals.get("timeout") not in (None, -1)
    return _names_a_limit(frame.f_code, frame.f_lasti)


@functools.lru_cache(maxsize=1024)
def _names_a_limit(code: CodeType, at: int) -> bool:
    """Whether the call at this offset has an argument ``timeout`` by its name, or one of that name before it."""
    before = [one for one in dis.get_instructions(code) if one.offset <= at][-4:]
    names = [code.co_consts[one.arg or 0] if one.opname == "KW_NAMES" else one.argval for one in before]
    return any(isinstance(one, tuple) and "timeout" in one for one in names)


@contextlib.contextmanager
def in_virtual_time(clock: Clock) -> Iterator[None]:
    """Inside this scope, limits of waits pass on this clock: on the thread that opens it, and on those of callers."""
    wait = threading.Condition.wait
    opener, before = threading.get_ident(), {*live_threads()}

    def is_real() -> bool:
        me = threading.get_ident()
        return me != opener and me not in waiting.by_thread

    def wait_for_it(condition: threading.Condition, timeout: float | None = None) -> bool:
        if not timeout or timeout <= 0 or is_real():
            return wait(condition, timeout)
        me = threading.get_ident()
        if me in waiting.by_thread and len(waiting.by_thread) > 1:
            return _waited(condition, _Wait(timeout, clock))
        if any(one not in before and one.ident not in waiting.by_thread for one in live_threads()):
            return wait(condition, timeout)
        clock.sleep(timeout)
        return wait(condition, 0)

    def now() -> float:
        return _monotonic() if is_real() else clock.read("monotonic")

    with (
        replaced(threading.Condition, wait=wait_for_it),
        replaced(threading, _time=now),
        replaced(queue, time=now),
    ):
        yield


def _waited(condition: Any, wait: _Wait) -> bool:
    """As CPython's ``Condition.wait``; whether it was notified."""
    if not condition._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    condition._waiters.append(wait.waiter)
    saved = condition._release_save()
    _waits[threading.get_ident()] = wait
    try:
        # In real time, too, it ends at the limit.
        ended = wait.waiter.acquire(timeout=min(wait.limit_s, threading.TIMEOUT_MAX))
    finally:
        _waits.pop(threading.get_ident(), None)
        condition._acquire_restore(saved)
    if ended and not wait.has_expired:
        return True
    try:
        condition._waiters.remove(wait.waiter)
    except ValueError:
        # Notified, and expired at the same time.
        return True
    return False
