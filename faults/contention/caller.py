"""A caller on a thread of this process, which runs only while it has the turn.

The system says whether its thread is blocked on a Python lock; then it gives the turn back, too.
"""

import contextlib
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain, repeat
from typing import Any, Final

from tornpage.faults.contention import timed_waits
from tornpage.faults.contention.calls import calls_of_this_thread
from tornpage.faults.contention.idle import POLL_S, Quiet, real_monotonic, real_sleep, sleep_of
from tornpage.faults.contention.lines import stack_of
from tornpage.faults.contention.schedule import alone
from tornpage.faults.contention.turns import Ended, Event, Gate, Hung, Turns, Waiting
from tornpage.faults.vfs import waiting

_PATIENCE_S: Final = 20.0
# The first looks at a caller of a shared store come soon: two are enough for one that waits for its lock.
_POLLS_S: Final = (0.0002, 0.0001, 0.0003)
_POLL_S: Final = 0.005
# So many looks (some seconds) at a caller that has what it was blocked by, until it waits again.
_MOST_SETTLING: Final = 2_000


class Caller(Turns):
    """A caller on a thread of this process. `do` runs work to its end; `start` and `go` run it in turns.

    `at_calls`: its calls into ``sqlite3`` within `watching` are points; `at_requests`: so are those that pass on work.
    """

    def __init__(self, name: str, gate: Gate, *, at_calls: bool = False, at_requests: bool = False) -> None:
        super().__init__()
        self.name = name
        self._gate = gate
        self._at_calls, self._at_requests = at_calls, at_requests
        # The connections of the calls of its work that were points; None for other points.
        self.called: list[sqlite3.Connection | None] = []
        # The lock guards `_has_turn`; the caller waits for `_turn`, the coordinator for `_back`.
        self._lock, self._turn, self._back = threading.Lock(), threading.Event(), threading.Lock()
        # A lock: what waits with a limit in `threading` is virtual for this thread, too.
        self._back.acquire()
        # What the system reports of its thread while that is blocked.
        self._slept: bytes | None = None
        self._is_at_turn = False
        self._work: Callable[[], Any] | None = None
        self._event: Event | None = None
        self._has_turn = self._is_free = self._at_work = self._was_blocked = False
        self._thread = threading.Thread(target=self._live, name=f"caller {name}", daemon=True)
        self._thread.start()

    # -- the coordinator's side ----------------------------------------------------------------------------

    def start(self, work: Callable[[], Any], stops: frozenset[int] = frozenset()) -> None:
        """Pass work to the caller, which begins it when it next gets the turn."""
        self.called = []
        self._begin(work, stops)
        self._at_work = self._at_calls

    def _begin(self, work: Callable[[], Any], stops: frozenset[int] = frozenset()) -> None:
        self.begin(stops)
        self._work, self._at_work = work, False

    def go(self) -> Event:
        """Give the caller the turn until it stops, waits or ends."""
        self._gate.current = self
        try:
            return self._go()
        finally:
            # Between two turns, operations in this process belong to no caller.
            self._gate.current = None

    def _go(self) -> Event:
        with self._lock:
            self._has_turn = True
            self._turn.set()
        # One that was blocked before may wait for another process, so it gets more time.
        quiet, began = Quiet(at_once=not self._was_blocked), real_monotonic()
        polls_s = chain(_POLLS_S if self._at_work else (), repeat(_POLL_S))
        while not self._back.acquire(timeout=next(polls_s)):
            blocked = quiet.lasts()
            # Real time, not the patched clock: this limit is for the machine.
            if not blocked and real_monotonic() - began < _PATIENCE_S:
                continue
            with self._lock:
                if self._back.acquire(blocking=False):
                    break
                self._has_turn = False
                self._turn.clear()
            frame = sys._current_frames().get(self._thread.ident or 0)
            stack = stack_of(frame)
            if not blocked:
                return Hung(stack)
            self._was_blocked, self._slept = True, sleep_of(self._thread.native_id)
            rest_s = timed_waits.rest_of(self._thread.ident)
            return Waiting("blocked", stack, rest_s, may_end=rest_s is None and timed_waits.has_a_limit(frame))
        assert self._event is not None  # noqa: S101 - it is set before the turn is given back
        self._was_blocked, self._slept = False, None
        return self._event

    def expire(self) -> None:
        """Let the time limit of its wait pass."""
        timed_waits.expire(self._thread.ident)

    def do(self, work: Callable[[], Any]) -> Any:
        """Run work to its end on the caller's thread, with no points; return its result or raise its exception."""
        self._begin(work)
        event = alone(self)
        if isinstance(event.result, BaseException):
            raise event.result
        return event.result

    def close(self) -> None:
        """Let the caller run without turns, and wait a limited time for its thread to end."""
        with self._lock:
            self._is_free, self._work = True, None
            self._turn.set()
        self._thread.join(_PATIENCE_S / 10)

    # -- the caller's side ---------------------------------------------------------------------------------

    def watching(self) -> AbstractContextManager[None]:
        """A scope in which its calls are points, if it stops at calls at all: the store's own code, and no more."""
        if not self._at_work:
            return contextlib.nullcontext()
        return calls_of_this_thread(self._calls, requests=self._at_requests, returned=self.at_return)

    def hand_over(self, event: Event) -> None:
        """Give the turn back and wait for it."""
        self._give_back(event)
        if not self._is_free:
            self._turn.wait()

    def _give_back(self, event: Event) -> None:
        with self._lock:
            if self._is_free:
                return
            if self._has_turn:
                self._event, self._has_turn = event, False
                self._turn.clear()
                self._back.release()

    def at_point(self, operation: str) -> None:
        """Count an operation; a caller that was reported as blocked waits here for its turn."""
        if not self._is_free:
            self._wait_for_turn()
            super().at_point(operation)

    def at_return(self, operation: str) -> None:
        """As `at_point`, after a call."""
        if not self._is_free:
            self._wait_for_turn()
            super().at_return(operation)

    def _wait_for_turn(self) -> None:
        self._is_at_turn = True
        self._turn.wait()
        self._is_at_turn = False
        for other in list(self._gate.turns.values()):
            if other is not self and isinstance(other, Caller):
                other.settle()

    def settle(self) -> None:
        """If it was blocked and this has ended: let it take what it waited for, until it waits for its turn.

        Else it would depend on the system which of two callers takes a lock that one releases and asks for again.
        """
        before = self._slept
        for _ in range(_MOST_SETTLING if before is not None else 0):
            now = sleep_of(self._thread.native_id)
            if self._is_at_turn or (now is not None and now == before):
                break
            before = now
            real_sleep(POLL_S / 2)
        else:
            return
        self._slept = None if self._is_at_turn else before

    def _live(self) -> None:
        me = threading.get_ident()
        waiting.by_thread[me] = self.waits
        self._gate.turns[me] = self
        try:
            while True:
                self._turn.wait()
                work, self._work = self._work, None
                if work is None:
                    return
                result = self._worked(work)
                # A caller that was reported as blocked, and has ended since, reports its end when it has the turn.
                self._turn.wait()
                self._give_back(Ended(self.points, result, tuple(self.returns)))
        finally:
            waiting.by_thread.pop(me, None)
            self._gate.turns.pop(me, None)

    def _calls(self, name: str, connection: sqlite3.Connection | None) -> None:
        self.called.append(connection)
        self.at_point(name)

    def _worked(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - raised by `do`
            return error
