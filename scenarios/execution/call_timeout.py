"""Time limit for a call: a call that never returns is stopped, so that the search can name its fault and continue.

Method. SIGALRM raises an exception that ``except Exception`` does not catch, and repeats until the call has ended: a
store that retries forever with a bare ``except`` is eventually interrupted inside its handler. A timer set earlier (by
pytest-timeout, say) still fires at its own time, and keeps its remaining time afterwards.

A store that hung once hangs at each point of that kind. From then on the limit is ten times the longest call that did
return: further hangs are found sooner, and no other store is affected, since the same check has already failed.

On a busy machine a call may wait longer for a processor than it computes. So in the second half of a limit the time
in which a thread of this process was ready to run, and no processor ran it (`starvation`), does not count. A call that
computes for ever still uses up its limit, and one that waits for ever for anything else is stopped when it is over.

Nor does the time in which the harness waits for the process of a rival, which it starts and asks inside a call.

A store's sleep in a call takes no real time (`sleeping`), and does not count, up to an hour.

The handler does not raise inside a callback of the shim or of the allocator, where C would drop the exception, nor
between the acquisition of a lock by ``with`` and the block that releases it, where Python 3.14 would leave the lock
held (3.13 and earlier run no handler there; ``tests/scenarios/test_call_timeout.py`` shows it). The timer fires again a
moment later. If it only interrupts callbacks, as in ``Connection.backup``, which requests a lock forever in C, each
operation of SQLite fails from then on until the call has ended.

Not covered: a busy machine that is not Linux, systems without SIGALRM, calls outside the main thread, a statement that
stays inside SQLite and does no I/O, and a program of its own, which has its own time limit for answers.
"""

import contextlib
import opcode
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from tornpage import faults
from tornpage.faults.contention.waiting import waited_for_rivals
from tornpage.faults.locks import live_threads
from tornpage.faults.vfs import waiting
from tornpage.scenarios.execution import starvation
from tornpage.scenarios.execution.sleeping import no_real_sleep

DEFAULT_S: Final = 10.0
# The clock of the machine. `time.monotonic` may be a clock that stands still: of a rival, of two callers, of the store.
_monotonic: Final = time.monotonic
# The modules whose functions SQLite calls.
_CALLED_BY_SQLITE: Final = ("tornpage.faults.vfs.", "tornpage.faults.limits.memory")
_AGAIN_AFTER_S: Final = 0.05
_SOON_S: Final = 0.001
_LEAST_S: Final = 0.25
_TIMES_THE_LONGEST: Final = 10
# A frame seen there so many times, a millisecond apart, waits for the lock and has not got it.
_MOST_PUT_OFF: Final = 50
_WITH_IS_ATOMIC: Final = sys.version_info < (3, 14)
# So many rings in a row inside callbacks: about a second.
_RINGS_IN_C: Final = 500


class TookTooLongError(BaseException):
    """A call exceeded its time limit."""


class Patience:
    """The time limit of a call in this process, in seconds; shorter after a call has hung."""

    def __init__(self, seconds: float = DEFAULT_S) -> None:
        self.seconds = seconds
        self.has_met_a_hang = False
        # A thread that existed before the store under test does not work for it.
        self.threads = frozenset(live_threads())
        self._longest = 0.0

    @property
    def limit(self) -> float:
        """The time limit of the next call."""
        if not self.has_met_a_hang:
            return self.seconds
        return min(self.seconds, max(_LEAST_S, _TIMES_THE_LONGEST * self._longest))

    def returned(self, after: float) -> None:
        """Record the duration of a call that has returned."""
        self._longest = max(self._longest, after)


_patience = Patience()


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[Patience]:
    """Set the time limit of calls inside this scope; raises nothing by itself."""
    global _patience  # noqa: PLW0603 - there is one timer in a process, and one patience
    outer, _patience = _patience, Patience(seconds)
    try:
        yield _patience
    finally:
        _patience = outer


def has_threads_of_the_store() -> bool:
    """Whether threads are alive that were started after the harness began, but for those that its callers run on."""
    mine = threading.current_thread()
    others = (thread for thread in live_threads() if thread is not mine and thread.ident not in waiting.by_thread)
    return any(thread not in _patience.threads for thread in others)


@contextlib.contextmanager
def in_time(what: object, *, calls: int = 1) -> Iterator[None]:
    """Raise `TookTooLongError`, naming `what`, if the scope, which makes so many calls, is not left in time."""
    mine = _patience
    now = _monotonic
    began = now()
    # The same text on every replay, whatever the actual limit was.
    message = f"{what} did not return within {mine.seconds:g} s (--call-timeout)"
    try:
        with limit(calls * mine.limit, message, insists=True), no_real_sleep(mine.threads, TookTooLongError(message)):
            yield
    except TookTooLongError:
        mine.has_met_a_hang = True
        raise
    if _is_stoppable():
        mine.returned((now() - began) / calls)


def _is_stoppable() -> bool:
    """Whether the timer can stop this thread. A call on another one may have waited for its turn, too."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def limit(seconds: float, message: str, *, insists: bool = False) -> Iterator[None]:
    """Raise `TookTooLongError` with this message in this scope after so many seconds.

    With `insists` also at its end, if the code under test has swallowed it.
    """
    if not hasattr(signal, "setitimer") or not _is_stoppable():
        yield
        return
    timer = _Timer(seconds, message)
    try:
        # It may ring before the next line, on a busy machine.
        timer.start()
        yield
    except Exception:
        # What fails since all operations do says nothing else.
        if not timer.has_stopped_all:
            raise
    finally:
        timer.stop()
    if timer.has_stopped_all or (timer.has_rung and insists):
        raise TookTooLongError(message)


def _in_a_callback(frame: FrameType | None) -> bool:
    """Whether this is code of the shim or of the allocator, or was called by it: SQLite waits for its result."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_CALLED_BY_SQLITE):
            return True
        frame = frame.f_back
    return False


def _takes_a_lock(frame: FrameType | None) -> bool:
    """Whether the running instruction is the call of ``__enter__`` by a ``with`` statement."""
    if _WITH_IS_ATOMIC or frame is None:
        return False
    code, at = frame.f_code.co_code, frame.f_lasti
    # The method is loaded right before: number 0 is __enter__.
    return code[at] == opcode.opmap["CALL"] and code[at - 2 : at] == bytes((opcode.opmap["LOAD_SPECIAL"], 0))


class _Timer:
    """The one timer that a process has, shared with its earlier user."""

    def __init__(self, seconds: float, message: str) -> None:
        self.has_rung = False
        self.has_stopped_all = False
        self._message = message
        self._now = _monotonic
        self._half_s = seconds / 2
        # The first half, then what is left of the second one.
        self._ends_at = self._now() + self._half_s
        self._half_at = 0.0
        self._starved: starvation.Starved | None = None
        # What the harness had waited for rivals when the time that still counts began.
        self._waited = waited_for_rivals()
        self._is_over = False
        self._live = True
        self._put_off = 0
        self._outer_handler: Any = signal.SIG_DFL
        self._outer_at: float | None = None
        self._outer_interval = 0.0

    def start(self) -> None:
        """Set it."""
        self._outer_handler = signal.signal(signal.SIGALRM, self._ring)
        remaining, self._outer_interval = signal.setitimer(signal.ITIMER_REAL, 0)
        if remaining and callable(self._outer_handler):
            self._outer_at = self._now() + remaining
        self._set_again()

    def stop(self) -> None:
        """Have it as it was before."""
        self._live = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer_handler)
        if self.has_stopped_all:
            faults.shims().stop(stopped=False)
        if self._outer_at is not None:
            remaining = max(self._outer_at - self._now(), _SOON_S)
            signal.setitimer(signal.ITIMER_REAL, remaining, self._outer_interval)

    def _set_again(self) -> None:
        due = self._ends_at if self._outer_at is None else min(self._ends_at, self._outer_at)
        signal.setitimer(signal.ITIMER_REAL, max(due - self._now(), _SOON_S), _AGAIN_AFTER_S)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        # pytest shows the line of the call that was stopped, and not this one.
        __tracebackhide__ = True
        if not self._live:
            return
        now = self._now()
        if self._outer_at is not None and now >= self._outer_at:
            self._outer_at = now + self._outer_interval if self._outer_interval else None
            self._set_again()
            self._outer_handler(number, frame)
            return
        if now >= self._ends_at and self._has_passed(now):
            self._put_off += 1
            is_inside = _in_a_callback(frame)
            if is_inside and self._put_off == _RINGS_IN_C:
                self.has_stopped_all = True
                faults.shims().stop(stopped=True)
            if is_inside or (self._put_off <= _MOST_PUT_OFF and _takes_a_lock(frame)):
                signal.setitimer(signal.ITIMER_REAL, _SOON_S, _AGAIN_AFTER_S)
                return
            self._put_off = 0
            self.has_rung = True
            raise TookTooLongError(self._message)
        self._set_again()

    def _has_passed(self, now: float) -> bool:
        """Whether both halves have passed; if not, `_ends_at` becomes the time to ask again."""
        if self._is_over:
            return True
        waited = waited_for_rivals() - self._waited
        if self._starved is None and waited:
            self._waited += waited
            self._ends_at = now + waited
            return False
        left = self._half_s
        if self._starved is None:
            self._starved, self._half_at = starvation.starved(), now
        else:
            left -= now - self._half_at - starvation.longest_since(self._starved) - waited
        self._is_over = left <= 0
        if not self._is_over:
            self._ends_at = now + max(left, _SOON_S)
        return self._is_over
