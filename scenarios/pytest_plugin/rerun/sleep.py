"""How SQLite sleeps in a test with a marker: in virtual time, unless another thread or process may be working.

A wait on a lock that a fault has refused, or that the test itself holds, ends no sooner in real time. If another thread
or a child process is alive, it may hold the lock, and the wait is real.

Not covered: locks held by processes that are not children of this one.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

from tornpage import faults
from tornpage.scenarios.execution.sleeping import is_alone

# The armed plan, its number of firings at the last sleep, and the threads that belong to no test.
_armed: list[faults.Armed] = []
_seen: list[int] = []
_known: set[threading.Thread] = set()
# The scopes in which callers take turns.
_turns: list[faults.Shims] = []


def know(threads: Iterable[threading.Thread]) -> None:
    """These threads existed before the tests: none of them works on a test's database."""
    _known.clear()
    _known.update(threads)


def know_also(threads: Iterable[threading.Thread]) -> None:
    """These threads outlive a run: they do not belong to the runs that follow."""
    _known.update(threads)


def sleeping(shim: faults.Shims) -> AbstractContextManager[None]:
    """Let SQLite sleep in this way inside this scope."""
    return shim.virtual_sleep(unless=_has_to_be_real)


@contextlib.contextmanager
def faulted_by(armed: faults.Armed) -> Iterator[None]:
    """A sleep right after a firing of this plan is due to it."""
    _armed.append(armed)
    _seen.append(0)
    try:
        yield
    finally:
        _armed.pop()
        _seen.pop()


@contextlib.contextmanager
def in_turns(shim: faults.Shims) -> Iterator[None]:
    """Two callers take turns inside this scope: one that waits for the other must not do so in real time."""
    _turns.append(shim)
    try:
        with shim.virtual_sleep(), faults.waiting_in_virtual_time(shim):
            yield
    finally:
        _turns.pop()


def _has_to_be_real(_sleep_us: int) -> bool:
    return not (_turns or _is_injected() or is_alone(_known))


def _is_injected() -> bool:
    if not _armed:
        return False
    before, _seen[-1] = _seen[-1], len(_armed[-1].firings)
    return _seen[-1] > before
