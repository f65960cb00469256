"""Locks that stay consistent when a signal handler raises an exception.

Up to Python 3.13, in ``with lock:`` no handler runs between acquiring the lock and the block that releases it. From
3.14 on a handler can run there, and an exception that it raises (KeyboardInterrupt on Ctrl-C) leaves the lock acquired:
the next operation that needs it waits for ever. So from 3.14 on these locks are acquired in a separate function, in
which `faults.vfs.signals` lets no handler run; no handler can run between that function's end and the block.

Not covered: locks of the code under test, and any time at which no shim is in use.
"""

import gc
import sys
import threading
from contextlib import AbstractContextManager
from types import CodeType, TracebackType
from typing import Final

_WITH_IS_ATOMIC: Final = sys.version_info < (3, 14)


class _Guarded:
    """A lock that is acquired and released in separate Python functions."""

    def __init__(self, lock: "threading.Lock | threading.RLock") -> None:
        self._take, self._give_back = lock.acquire, lock.release

    def __enter__(self) -> None:
        self._take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._give_back()


# The functions in whose frames no handler may run.
GUARDED: Final[frozenset[CodeType]] = frozenset({_Guarded.__enter__.__code__, _Guarded.__exit__.__code__})

AnyLock = AbstractContextManager[bool | None]


def new_lock() -> AnyLock:
    """A lock that one thread can hold, once."""
    lock = threading.Lock()
    return lock if _WITH_IS_ATOMIC else _Guarded(lock)


def new_reentrant_lock() -> AnyLock:
    """A lock that one thread can hold, and acquire again while it holds it."""
    lock = threading.RLock()
    return lock if _WITH_IS_ATOMIC else _Guarded(lock)


def live_threads() -> list[threading.Thread]:
    """The threads of this process, without a garbage collection while their list is locked.

    ``threading.enumerate`` holds a lock that every thread needs to begin and to end. If an object is collected
    meanwhile whose ``__del__`` waits for a thread, it would wait for ever.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return threading.enumerate()
    finally:
        if was_enabled:
            gc.enable()
