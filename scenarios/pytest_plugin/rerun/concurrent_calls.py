"""The fixtures ``callers`` and ``cancelled``: one pair of calls that is switched, one call that is cut short.

Two callables run on threads of their own, one at a time (`faults.contention.schedule`). Both may use a connection that
the test has opened: inside such a run ``sqlite3.connect`` does not tie connections to threads. If the first run sees
both of them call into one connection, they are switched at such calls: at a lock the stopped one would hold the
connection's own mutex. Two coroutines are switched at their awaits (`faults.contention.coroutines`).

After a call that was cut short, no connection of the test may have a transaction open that it had not open before, and
no database that the test uses may be locked for another writer.
"""

import contextlib
import functools
import inspect
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from tornpage import faults
from tornpage.faults.contention.awaits import Awaits, Calls, holds_a_lock, quiet, tasks
from tornpage.faults.contention.caller import Caller
from tornpage.faults.contention.calls import connections_called
from tornpage.faults.contention.coroutines import Pair, Unsettled
from tornpage.faults.contention.schedule import Deadlock, Hop, switch
from tornpage.faults.contention.turns import Ended, Gate, Paused
from tornpage.faults.locks import live_threads
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs import waiting
from tornpage.scenarios.pytest_plugin.rerun.connections import Connections, file_of
from tornpage.scenarios.pytest_plugin.rerun.plain_files import watched as watched_files
from tornpage.scenarios.pytest_plugin.rerun.sleep import in_turns
from tornpage.scenarios.pytest_plugin.rerun.watchers import Databases

_OTHER_THREAD: Final = "created in a thread can only be used in that same thread"


class Point:
    """The point of this run: `number` 0 counts, others switch at that point; `turned`: the second callable goes first.

    A negative number is the return of that call; `returns` are those of both that are points. `seen` are the points of
    the first callable, and of the second; `shares`: points are calls into one connection that
    both use; `hops` describe what happened, `was_switched` whether the point came. While the first one stood, the
    second one went to its end and called into the very connection (`has_met`), or into another one only (`was_lent`).
    """

    def __init__(self, number: int = 0, *, turned: bool = False, shares: bool = False) -> None:
        self.number = number
        self.turned = turned
        self.shares = shares
        self.seen = [0, 0]
        self.returns: list[list[int]] = [[], []]
        self.was_used = self.was_switched = self.has_met = self.was_lent = False
        # What the fixture returned has still to be awaited.
        self.is_due = False
        self.hops: list[str] = []
        # The databases and connections of this run.
        self.databases = Databases()
        self.connections: Connections | None = None

    def __str__(self) -> str:
        who = "B" if self.turned else "A"
        return "; ".join(self.hops) or f"{who} at point {self.number}"


class Callers:
    """The fixture ``callers``: call it with two callables without arguments, two coroutines or coroutine functions.

    Returns both results. A busy error of SQLite is a result like any other, and so is one of the classes in `errors`;
    any other exception is raised.
    """

    def __init__(self, point: Point, item: pytest.Item) -> None:
        self._point = point
        self._item = item

    def __call__(self, first: Any, second: Any, *, errors: tuple[type[Exception], ...] = ()) -> Any:
        """The results; to be awaited for coroutines."""
        if self._point.was_used:
            pytest.fail("callers is called once in a test: one schedule, one pair of calls", pytrace=False)
        self._point.was_used = True
        check = functools.partial(_checked, errors=errors)
        if not all(callable(one) or inspect.iscoroutine(one) for one in (first, second)):
            _forget(first, second)
            pytest.fail(f"callers takes two callables or two coroutines, not {first!r} and {second!r}", pytrace=False)
        first, second = (
            functools.partial(_itself, one) if inspect.iscoroutine(one) else one for one in (first, second)
        )
        if any(map(inspect.iscoroutinefunction, (first, second))):
            one, other = (functools.partial(_awaited, work) for work in (first, second))
            return self._in_one_loop(one, other, check)
        results = self._on_threads(first, second, check)
        if all(map(inspect.iscoroutine, results)):
            # Functions such as ``lambda: store.claim("one")``, which make their coroutines.
            one, other = (functools.partial(_itself, made) for made in results)
            return self._in_one_loop(one, other, check)
        return results

    def _in_one_loop(self, first: Any, second: Any, check: Callable[[Any], Any]) -> Any:
        self._point.is_due = True
        return self._switched_in_one_loop(first, second, check)

    async def _switched_in_one_loop(self, first: Any, second: Any, check: Callable[[Any], Any]) -> list[Any]:
        point = self._point
        point.is_due = False
        one, other = (second, first) if point.turned else (first, second)
        pair = Pair(point.number)
        with in_turns(faults.shims()):
            try:
                results = await pair.run(one, other)
            except Deadlock as deadlock:
                _fail(deadlock)
            except Unsettled as unsettled:
                pytest.fail(f"interleave can't judge this schedule: {unsettled}", pytrace=False)
        if not point.number:
            point.seen, point.shares = pair.seen, False
        else:
            point.was_switched = pair.was_switched
            point.hops = [f"{'B' if point.turned else 'A'} up to its await {point.number}, then the other one"]
        return [check(one) for one in (reversed(results) if point.turned else results)]

    def _on_threads(self, first: Any, second: Any, check: Callable[[Any], Any]) -> list[Any]:
        point, gate, called = self._point, Gate(), list[list[sqlite3.Connection | None]]([[], []])
        shims = faults.shims()
        with contextlib.ExitStack() as scopes:
            scopes.enter_context(in_turns(shims))
            if not point.shares:
                scopes.enter_context(shims.watching(gate))
                scopes.enter_context(watched_files(gate, self._item))
            scopes.enter_context(_threads_of_their_own(gate))
            callers = [Caller(name, gate, at_calls=point.shares, at_requests=point.shares) for name in "AB"]
            works = (first, second) if point.number else map(_noting, (first, second), called, point.returns)
            try:
                for caller, work in zip(callers, works, strict=True):
                    caller.start(functools.partial(_watched, caller, work), frozenset())
                leading = callers[::-1] if point.turned else callers
                if point.number:
                    leading[0].begin(frozenset({point.number}))
                hops = _switched(leading)
            finally:
                for caller in callers:
                    caller.close()
        ended = {hop.caller: hop.event for hop in hops if isinstance(hop.event, Ended)}
        point.hops = [_in_words(hop) for hop in hops]
        point.was_switched = any(isinstance(hop.event, Paused) for hop in hops)
        if point.was_switched and (meanwhile := _called_meanwhile(leading, hops)):
            point.has_met, point.was_lent = meanwhile
        if not point.number:
            used = [{id(one) for one in each if one is not None} for each in called]
            point.shares = not used[0].isdisjoint(used[1])
            point.seen = [*map(len, called)] if point.shares else [ended["A"].points, ended["B"].points]
        return [check(ended[name].result) for name in "AB"]


def _watched(caller: Caller, work: Callable[[], Any]) -> Any:
    with caller.watching():
        return work()


@contextlib.contextmanager
def _threads_of_their_own(gate: Gate) -> Iterator[None]:
    """A thread that a caller starts, and that waits, gives the turn back for it."""
    before = {thread.ident for thread in live_threads()}

    def waits(for_what: str) -> None:
        if gate.current is not None and threading.get_ident() not in before:
            gate.current.waits(for_what)

    waiting.anywhere.append(waits)
    try:
        yield
    finally:
        waiting.anywhere.remove(waits)


async def _itself(made: Any) -> Any:
    return await made


async def _awaited(work: Callable[[], Any]) -> Any:
    """Make a coroutine, by its function or by one such as ``lambda: store.claim("one")``, and await it."""
    made = work()
    if not inspect.isawaitable(made):
        raise TypeError(f"callers takes two callables or two coroutines, and {work!r} is not one of two coroutines")
    return await made


def _forget(*works: Any) -> None:
    """Close coroutines that will not be awaited, before Python warns of them."""
    for work in works:
        if inspect.iscoroutine(work):
            work.close()


def _noting(work: Callable[[], Any], called: list[sqlite3.Connection | None], returns: list[int]) -> Callable[[], Any]:
    """The same work; the connections that it calls into are written down, and the calls whose returns are points."""

    def noted() -> Any:
        with connections_called(called, returns):
            return work()

    return noted


def _switched(leading: list[Caller]) -> list[Hop]:
    try:
        return switch(leading[0], leading[1])
    except Deadlock as deadlock:
        _fail(deadlock)


def _fail(deadlock: Deadlock) -> NoReturn:
    where = "; ".join(f"{name} at {stack}" for name, stack in sorted(deadlock.stacks.items()))
    pytest.fail(f"deadlock: {deadlock}: {where}", pytrace=False)


def _called_meanwhile(leading: list[Caller], hops: list[Hop]) -> tuple[bool, bool] | None:
    """Whether the second called into the connection at which the first stood, or only into others; None: it waited."""
    first, second = leading
    stop = hops[0].event
    if not isinstance(stop, Paused) or len(hops) < 2 or not isinstance(hops[1].event, Ended) or not first.called:
        return None
    stood_at = first.called[abs(stop.point.number) - 1]
    if stood_at is None:
        return None
    has_met = any(connection is stood_at for connection in second.called)
    return has_met, any(second.called) and not has_met


def _in_words(hop: Hop) -> str:
    event = hop.event
    if isinstance(event, Paused):
        side = "up to" if event.point.number > 0 else "after"
        return f"[{hop.caller}] {side} {event.point.operation} {abs(event.point.number)}, at {event.point.where}"
    if isinstance(event, Ended) and isinstance(event.result, Exception):
        return f"[{hop.caller}] to its end, with {type(event.result).__name__}: {event.result}"
    return f"[{hop.caller}] {'to its end' if isinstance(event, Ended) else 'waits'}"


def _checked(result: Any, *, errors: tuple[type[Exception], ...]) -> Any:
    if not isinstance(result, BaseException):
        return result
    if isinstance(result, sqlite3.ProgrammingError) and _OTHER_THREAD in str(result):
        pytest.fail(
            f"{result}: the two callables share a connection that is tied to a thread; open it inside each callable, "
            "or with check_same_thread=False",
            pytrace=False,
        )
    if isinstance(result, errors) or any(map(faults.is_busy, faults.causes(result))):
        return result
    raise result


class Cancelling:
    """The fixture ``cancelled``: ``await cancelled(coroutine)``, or ``cancelled(callable)`` for code without awaits.

    Returns True if it was cut short. Afterwards no transaction may be open, and no lock held.
    """

    def __init__(self, point: Point, raising: type[BaseException]) -> None:
        self._point = point
        self._raising = raising
        # What was open, or locked, before the call.
        self._busy: list[sqlite3.Connection | str] = []
        self._locked: set[Path] = set()

    def __call__(self, work: Any) -> Any:
        """Cut it short at this run's point; to be awaited if it is a coroutine."""
        self._point.was_used = True
        if inspect.iscoroutinefunction(work):
            work = work()
        if inspect.iscoroutine(work):
            self._point.is_due = True
            return self._cancel(work)
        if not callable(work):
            pytest.fail(f"cancelled takes a coroutine, or a callable of no arguments; not {work!r}", pytrace=False)
        return self._raise_in(work)

    async def _cancel(self, work: Any) -> bool:
        import asyncio  # noqa: PLC0415 - only if it is used

        awaits = Awaits(self._point.number)
        self._point.is_due = False
        self._look_before("cancelled at its await")
        before = tasks()
        try:
            await awaits.cancelled(work)
        except asyncio.CancelledError:
            if not awaits.was_cancelled:
                raise
        self._counted(awaits.seen)
        await quiet(before)
        self._require_nothing_open()
        return awaits.was_cancelled

    def _raise_in(self, work: Callable[[], Any]) -> bool:
        calls, was_cut, made = Calls(self._point.number, self._raising), False, None
        self._look_before(f"{self._raising.__name__} at its call", " into sqlite3")
        try:
            with calls.counted():
                made = work()
        except self._raising:
            if not calls.has_raised:
                raise
            was_cut = True
        if inspect.iscoroutine(made):
            _forget(made)
            pytest.fail("cancelled: the callable returns a coroutine; pass the coroutine, and await", pytrace=False)
        self._counted(calls.seen)
        self._require_nothing_open(calls.connections)
        return was_cut

    def _counted(self, seen: int) -> None:
        # A test may cut more than one call short; each one at the same point.
        self._point.seen = [max(self._point.seen[0], seen), 0]
        self._point.was_switched |= 0 < self._point.number <= seen

    # -- what it leaves ------------------------------------------------------------------------------------

    @property
    def _connections(self) -> Connections:
        assert self._point.connections is not None  # noqa: S101 - a run is on
        return self._point.connections

    def _look_before(self, what: str, where: str = "") -> None:
        """A transaction that is open before the call is not its own; nor is a lock that a connection always holds."""
        self._point.hops = [f"{what} {self._point.number}{where}" if self._point.number else "not even cut short"]
        self._busy = self._connections.in_transaction()
        self._locked = {database for database in self._databases() if holds_a_lock(database)}

    def _require_nothing_open(self, called: Iterable[sqlite3.Connection] = ()) -> None:
        left = [one for one in self._connections.in_transaction() if one not in self._busy]
        for database in sorted(self._databases(left) - self._locked):
            if said := holds_a_lock(database):
                self._fail(f"a transaction is left open, and every other writer of {database.name} gets: {said}")
        if left:
            where = ", ".join(sorted({Path(file_of(one)).name for one in left}))
            self._fail(f"a transaction is left open on {where}: its connection's next user is inside it")
        mine = [one for one in self._busy if one in (*self._connections.own, *called)]
        if mine:
            where = ", ".join(sorted({Path(file_of(one)).name for one in mine}))
            pytest.fail(
                f"every_cancel can't judge this call: a transaction is open on {where} before it begins; commit it "
                "first",
                pytrace=False,
            )

    def _fail(self, what: str) -> None:
        pytest.fail(f"still-usable-after-the-fault: {self._point}: {what}", pytrace=False)

    def _databases(self, left: Iterable[sqlite3.Connection | str] = ()) -> set[Path]:
        """Those that this run has opened, and those on which a transaction is left."""
        named = {*self._point.databases.paths, *map(file_of, left)}
        return {Path(one).absolute() for one in named if os.sep in one}
