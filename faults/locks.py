"""Locks that what a signal handler raises can't leave locked.

Until Python 3.13, ``with lock:`` lets no handler run between the lock's taking and the block that gives it back. From
3.14 on one may run there, and what it raises (Ctrl-C's KeyboardInterrupt) leaves the lock taken for good: the next
operation of the same thread waits for ever. So from 3.14 on the locks here are taken in a function of their own, in
which `faults.vfs.signals` lets no handler run; nothing can run between that function's end and the block.

Not covered: locks of the code under test, and any time in which no shim is in use.
"""

import gc
import sys
import threading
from contextlib import AbstractContextManager
from types import CodeType, TracebackType
from typing import Final

_WITH_IS_ATOMIC: Final = sys.version_info < (3, 14)


class _Guarded:
    """A lock that is taken and given back in functions of its own."""

    def __init__(self, lock: "threading.Lock | threading.RLock") -> None:
        self._take, self._give_back = lock.acquire, lock.release

    def __enter__(self) -> None:
        self._take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._give_back()


# In whose frames no handler may run.
GUARDED: Final[frozenset[CodeType]] = frozenset({_Guarded.__enter__.__code__, _Guarded.__exit__.__code__})

AnyLock = AbstractContextManager[bool | None]


def new_lock() -> AnyLock:
    """A lock that one thread at a time can hold, once."""
    lock = threading.Lock()
    return lock if _WITH_IS_ATOMIC else _Guarded(lock)


def new_reentrant_lock() -> AnyLock:
    """A lock that one thread at a time can hold, as often as it likes."""
    lock = threading.RLock()
    return lock if _WITH_IS_ATOMIC else _Guarded(lock)


def live_threads() -> list[threading.Thread]:
    """The threads of this process, without a garbage collection while their list is locked.

    ``threading.enumerate`` holds a lock that a thread needs to begin and to end. An object whose ``__del__`` waits for
    a thread of its own, and is collected just then, would wait for ever.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return threading.enumerate()
    finally:
        if was_enabled:
            gc.enable()
