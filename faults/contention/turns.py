"""Turns: two callers, of which only one runs at a time; the scheduler switches between them at counted operations.

Each caller works on its own thread, and runs only while it has the turn (`Caller.go`). It gives the turn back before a
*switch point* at which it must stop, when it waits (in SQLite's busy handler, or in ``time.sleep``: both are virtual),
when the system reports its thread as blocked (on a Python lock that the other caller holds), and at its end. So a
schedule has the same switches in every run, whatever the timing of the machine.

Switch points are SQLite's lock operations (`Gate.kinds`): between two of them no change by another connection can
become visible. For two callers that share one connection that is too late, because the paused thread would hold
SQLite's mutex: there the calls of the caller's thread count instead, and their returns (`calls`).

Not covered: a switch inside Python code without such an operation, and code that starts threads itself.
"""

import contextlib
import linecache
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain, repeat
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

from tornpage.faults.contention import timed_waits
from tornpage.faults.contention.calls import calls_of_this_thread
from tornpage.faults.contention.idle import POLL_S, Quiet, real_monotonic, real_sleep, sleep_of
from tornpage.faults.vfs import waiting

_PATIENCE_S: Final = 20.0
# The first two looks at a caller of a shared store follow each other quickly, enough for one that waits for its lock.
_POLLS_S: Final = (0.0005, 0.0003)
_POLL_S: Final = 0.005
# It is stuck if it is blocked this many times in a row (a few seconds in all).
_STUCK: Final = 150
# The same where it waits with a limit that passes in real time (a minute at least).
_STUCK_WITH_A_LIMIT: Final = 3_000
# So many looks (some seconds) at a caller that has what it was blocked by, until it waits again.
_MOST_SETTLING: Final = 2_000
# Both wait for each other if they have waited in turn this many times, with a new try each time; and the total limit.
_MOST_ROUNDS: Final = 30
_MOST_WAITS: Final = 20_000
# Of limits of waits; each counts as so long at least, which keeps their number below 600.
_MOST_EXPIRED_S, _LEAST_EXPIRED_S = 3600.0, 6.0
# So many points without giving the turn back: it spins.
_MOST_IN_A_ROW: Final = 5_000
_OURS: Final = frozenset({"tornpage", "threading", "queue", "asyncio", "contextlib", "concurrent"})
# Packages that pass a statement on for their caller, whose line says more.
_DRIVERS: Final = frozenset({"aiosqlite", "anyio", "django", "peewee", "playhouse", "sqlalchemy", "sqlmodel"})


class Point(NamedTuple):
    """A switch point: its number in the call (from 1), the operation, and the store's line that made it.

    A negative number is the return of the call with that number.
    """

    number: int
    operation: str
    where: str = ""


class Paused(NamedTuple):
    """The caller has stopped before the switch point at which it must stop."""

    point: Point


class Waiting(NamedTuple):
    """The caller waits, or spins: `for_what` is "lock" (of SQLite), "sleep", or "blocked" (the system reports it).

    `stack` says where. A blocked caller that waits with a time limit returns after `rest_s` seconds; `may_end`: its
    limit is not known, and passes in real time.
    """

    for_what: str
    stack: str = ""
    rest_s: float | None = None
    may_end: bool = False

    @property
    def most_rounds(self) -> int:
        """How often in a row it is found blocked before it is taken to be stuck."""
        return _STUCK_WITH_A_LIMIT if self.may_end else _STUCK


class Ended(NamedTuple):
    """The caller's work has ended after `points` switch points; `result` is the value that it returned.

    `returns` are the points whose return is a point, too.
    """

    points: int
    result: Any
    returns: tuple[int, ...] = ()


class Hung(NamedTuple):
    """The caller has not given the turn back within the time limit; `stack` says where it is."""

    stack: str


Event = Paused | Waiting | Ended | Hung


class Turns:
    """The caller's side: counts its points and gives the turn back (a subclass implements `hand_over`)."""

    def __init__(self) -> None:
        self.points = 0
        self.stops: frozenset[int] = frozenset()
        self.returns: list[int] = []
        # The points since it last gave the turn back.
        self._in_a_row = 0

    def begin(self, stops: frozenset[int]) -> None:
        """Restart the count, and stop before these points."""
        self.points, self.stops, self._in_a_row, self.returns = 0, stops, 0, []

    def at_point(self, operation: str) -> None:
        """Count an operation, and stop before it if its number is among the stops.

        A call that tries again and again without waiting gives the turn back, too: a system would let the other run.
        """
        self.points += 1
        self._in_a_row += 1
        if self._in_a_row > _MOST_IN_A_ROW:
            self._in_a_row = 0
            self.waits("lock")
        if self.points in self.stops:
            self._in_a_row = 0
            self.hand_over(Paused(Point(self.points, operation, line_of(sys._getframe(1)))))

    def at_return(self, operation: str) -> None:
        """Stop after the last point, if that is among the stops."""
        self.returns.append(self.points)
        if -self.points in self.stops:
            self._in_a_row = 0
            self.hand_over(Paused(Point(-self.points, operation, line_of(sys._getframe(1)))))

    def waits(self, for_what: str = "sleep") -> None:
        """Give the turn to the other caller, instead of waiting."""
        self.hand_over(Waiting(for_what, stack_of(sys._getframe(1))))

    def hand_over(self, event: Event) -> None:
        """Give the turn back, and return when this caller has it again."""
        raise NotImplementedError


class Gate:
    """An injector that never fires: each lock operation of a caller is a switch point.

    An operation on any other thread counts for the caller that has the turn.
    """

    kinds = frozenset({"lock", "shmlock"})

    def __init__(self) -> None:
        self.turns: dict[int, Turns] = {}
        self.current: Turns | None = None

    def watching(self) -> AbstractContextManager[None]:
        """The scope `watching` of the caller that runs on this thread."""
        turns = self.turns.get(threading.get_ident())
        return turns.watching() if isinstance(turns, Caller) else contextlib.nullcontext()

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Count the operation for its caller, and let it pass."""
        turns = self.turns.get(threading.get_ident(), self.current)
        if turns is not None and role == "db":
            turns.at_point(kind)


class Caller(Turns):
    """A caller on a thread of this process. `do` runs work to its end; `start` and `go` run it in turns.

    `at_calls`: its calls into ``sqlite3`` within `watching` are points; `at_requests`: so are those that pass on work.
    """

    def __init__(self, name: str, gate: Gate, *, at_calls: bool = False, at_requests: bool = False) -> None:
        super().__init__()
        self.name = name
        self._gate = gate
        self._at_calls, self._at_requests = at_calls, at_requests
        # The connections of the calls that were points; None for other points.
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
        self.begin(stops)
        self._work, self._at_work = work, self._at_calls

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
        self.start(work)
        self._at_work = False
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


def alone(caller: Any) -> Ended:
    """Run a caller's work to its end, with no other caller running; raises `Deadlock`."""
    stack, expired_s = "", 0.0
    for turn in range(_MOST_WAITS):
        event: Event = caller.go()
        if isinstance(event, Ended):
            return event
        if isinstance(event, Hung | Waiting):
            stack = event.stack
            if isinstance(event, Waiting) and event.rest_s is not None and expired_s < _MOST_EXPIRED_S:
                caller.expire()
                expired_s += max(event.rest_s, _LEAST_EXPIRED_S)
            elif isinstance(event, Hung) or (event.for_what == "blocked" and turn > event.most_rounds):
                break
    raise Deadlock({caller.name: stack}, f"{caller.name} does not return")


class Hop(NamedTuple):
    """One turn of a schedule: the caller that ran, and the event that ended its turn."""

    caller: str
    event: Event


class Deadlock(Exception):  # noqa: N818 - a finding, not an error
    """Both callers wait for each other, or one waits for ever; `stacks` by the caller's name."""

    def __init__(self, stacks: dict[str, str], reason: str) -> None:
        self.stacks = stacks
        super().__init__(reason)


def switch(first: Any, second: Any, hops: list[Hop] | None = None) -> list[Hop]:
    """Run two callers that have work: the first until it stops, the second to its end, then the rest of the first.

    A caller that waits gives the turn to the other one. Returns the turns in order; they are also appended to `hops` as
    they happen. Raises `Deadlock`.
    """
    return _Schedule(first, second, [] if hops is None else hops).run()


class _Schedule:
    def __init__(self, first: Any, second: Any, hops: list[Hop]) -> None:
        self._callers = {first.name: first, second.name: second}
        self._others = {first.name: second, second.name: first}
        self._active = first
        self._hops = hops
        self._ended: set[str] = set()
        # The callers that wait, and where, since one of them last made progress.
        self._waiting: dict[str, Waiting] = {}
        self._rounds = self._waits = 0
        self._expired_s = 0.0

    def run(self) -> list[Hop]:
        while len(self._ended) < 2:
            active = self._active
            event = active.go()
            other = self._others[active.name]
            expired = None
            if isinstance(event, Waiting | Hung):
                expired = self._wait(active.name, event, other.name)
            else:
                self._hops.append(Hop(active.name, event))
                self._waiting.clear()
                self._rounds = 0
                if isinstance(event, Ended):
                    self._ended.add(active.name)
            self._active = expired or (active if other.name in self._ended else other)
        return self._hops

    def _wait(self, name: str, event: Waiting | Hung, other: str) -> Any:
        """Note that a caller waits; returns the caller whose time limit has passed, if any. Raises `Deadlock`."""
        self._waits += 1
        self._rounds += 1
        stacks = {one: event.stack for one, event in self._waiting.items()} | {name: event.stack}
        if isinstance(event, Hung) or self._waits > _MOST_WAITS:
            raise Deadlock(stacks, f"{name} does not return")
        if not isinstance(self._waiting.get(name), Waiting):
            self._hops.append(Hop(name, event))
        self._waiting[name] = event
        if (other in self._ended or other in self._waiting) and (expired := self._expired()) is not None:
            return expired
        blocked = event.for_what == "blocked"
        if other in self._ended:
            if blocked and self._rounds > event.most_rounds:
                raise Deadlock(stacks, f"{name} is blocked, and {other} has ended")
        elif other in self._waiting and self._rounds > _most_rounds(event, self._waiting[other]):
            raise Deadlock(stacks, f"{name} and {other} wait for each other")
        return None

    def _expired(self) -> Any:
        """The caller whose time limit comes first, once that has passed; None if none waits with a limit."""
        # One that sleeps, or tries again, may still notify the other one.
        goes_on = any(event.for_what != "blocked" for event in self._waiting.values())
        limits = {
            name: event.rest_s
            for name, event in self._waiting.items()
            if event.rest_s is not None and not (goes_on and event.rest_s)
        }
        if not limits or self._expired_s > _MOST_EXPIRED_S:
            return None
        name = min(limits, key=lambda one: limits[one])
        self._expired_s += max(limits[name], _LEAST_EXPIRED_S)
        self._callers[name].expire()
        # It goes on, and the other one may have to wait longer.
        del self._waiting[name]
        return self._callers[name]


def _most_rounds(one: Waiting, other: Waiting) -> int:
    """After how many rounds two callers that wait are taken to wait for each other."""
    if any(wait.for_what == "blocked" and wait.rest_s is None for wait in (one, other)):
        return max(one.most_rounds, other.most_rounds)
    # One that sleeps may look again until a time of its own; SQLite's limit is the store's, and ends a real deadlock.
    return _MOST_ROUNDS if one.for_what == other.for_what == "lock" else _MOST_WAITS


# -- where a caller is --------------------------------------------------------------------------------------


def line_of(frame: FrameType | None) -> str:
    """The innermost line of code that is neither the harness's nor a library of locks: ``file:line: source``."""
    return next(iter(_lines(frame)), "")


def stack_of(frame: FrameType | None) -> str:
    """The innermost four such lines, innermost first."""
    return " < ".join(_lines(frame)[:4])


def _lines(frame: FrameType | None) -> list[str]:
    found: list[str] = []
    of_drivers: list[str] = []
    while frame is not None:
        code, name = frame.f_code, str(frame.f_globals.get("__name__", ""))
        is_ours = name.partition(".")[0] in _OURS and ".known_bugs" not in name and ".libraries" not in name
        if not is_ours and "importlib" not in name:
            source = linecache.getline(code.co_filename, frame.f_lineno).strip()
            lines = of_drivers if name.partition(".")[0] in _DRIVERS else found
            lines.append(f"{Path(code.co_filename).name}:{frame.f_lineno}: {source}")
        frame = frame.f_back
    return found or of_drivers
