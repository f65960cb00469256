"""Awaits as fault points: cancel a coroutine when it yields to the event loop, asyncio's or trio's, for the nth time.

The yields of tasks that it has begun count, too (`begun_tasks`). This is what happens to a real task: it is cancelled
while it waits, and the awaited work goes on (a statement that was passed to another thread still runs).
What is passed to an executor is one await in every run (`always_awaited`). For code without awaits: raise an exception
such as KeyboardInterrupt at the nth call into a connection of ``sqlite3``, as a signal handler would.
"""

import asyncio
import contextlib
import functools
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import Any, Final
from unittest import mock

from tornpage.faults.contention.begun_tasks import begun_by, watched
from tornpage.faults.contention.idle import LOOKS, POLL_S, all_idle, real_sleep, sleep_of
from tornpage.faults.contention.loops import the_loop
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.arm import connect_unwatched

_POLLS: Final = 1_000
_POLLS_OF_WORK: Final = 100
# At so many turns of the loop a task waits for the same thing before it counts as idle; the callbacks of a turn.
_TURNS: Final = 5
_CALLBACKS: Final = 5


class Awaits:
    """Counts the yields of a coroutine, and of the tasks that it begins, and cancels it at the `at`th (0: never).

    `was_cancelled`: that is how the coroutine ended.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.seen = 0
        self.was_cancelled = False
        self._has_ended = False

    async def cancelled(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` and cancel it at its `at`th await; asyncio raises its `CancelledError` then, trio nothing."""
        with always_awaited():
            return await self._cancelled(work)

    async def _cancelled(self, work: Coroutine[Any, Any, Any]) -> Any:
        loop = the_loop()
        with watched():
            if loop is asyncio:
                task: asyncio.Task[Any] = asyncio.ensure_future(self._called(work, lambda: self._cancel(task)))
                value: Any = await task
                self.was_cancelled = False
                return value
            value = None
            with loop.CancelScope() as scope:
                value = await self._called(work, scope.cancel)
            self.was_cancelled = scope.cancelled_caught
            return value

    async def _called(self, work: Coroutine[Any, Any, Any], cancel: Callable[[], None]) -> Any:
        # In asyncio, in the context of a task of its own.
        with begun_by(lambda other: self._stepped(other, cancel)):
            try:
                return await self._stepped(work, cancel)
            finally:
                self._has_ended = True

    def _has_yielded(self, cancel: Callable[[], object]) -> None:
        if self._has_ended:
            return
        self.seen += 1
        if self.seen == self.at and the_loop() is asyncio:
            # Once the loop has seen what the task waits for.
            asyncio.get_running_loop().call_soon(cancel)
        elif self.seen == self.at:
            cancel()

    def _cancel(self, task: "asyncio.Task[Any]") -> None:
        # What it has passed to a thread has run, and the task does not know: a pool may drop what it has not begun.
        for _ in range(_POLLS_OF_WORK):
            if all_idle():
                break
            real_sleep(POLL_S)
        self.was_cancelled = task.cancel()

    @types.coroutine
    def _stepped(self, work: Coroutine[Any, Any, Any], cancel: Callable[[], None]) -> Generator[Any, Any, Any]:
        resume = sending(work, None)
        while True:
            try:
                waits_for = resume()
            except StopIteration as ended:
                return ended.value
            self._has_yielded(cancel)
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - the coroutine handles every exception
                resume = throwing(work, error)
            else:
                resume = sending(work, value)


def throwing(work: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    """The next step of a coroutine: an exception is raised in it."""
    return lambda: work.throw(error)


def sending(work: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    """The next step of a coroutine: it gets what it has waited for."""
    return lambda: work.send(value)


@contextlib.contextmanager
def always_awaited() -> Iterator[None]:
    """Inside this scope, a coroutine awaits what it has passed to an executor, however fast the executor's thread is.

    From Python 3.14 on, asyncio completes the awaited future at once if the thread has ended before the future is made
    (CPython's ``_chain_future``). Then nothing is awaited: the number of awaits would depend on the machine's load.
    """
    add = Future.add_done_callback

    @functools.wraps(add)
    def add_late(future: "Future[Any]", function: Callable[..., Any]) -> None:
        if getattr(function, "__module__", "") == asyncio.futures.__name__:
            with contextlib.suppress(RuntimeError):
                # At the loop's next turn: the coroutine waits by then.
                asyncio.get_running_loop().call_soon(add, future, function)
                return
        add(future, function)

    with mock.patch.object(Future, "add_done_callback", add_late):
        yield


class Calls:
    """Counts the calls of this thread into ``sqlite3``, and raises an exception at the `at`th (0: never; `has_raised`).

    `connections` are those of all calls.

    It comes up before the call; at the end of a ``with connection:`` after it, when that has committed. Between
    the last statement of the block and that end Python runs no handler: of 10,931 interrupts by a timer (on 3.11
    and 3.13) none left the transaction open.
    """

    def __init__(self, at: int = 0, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.at = at
        self.seen = 0
        self.has_raised = False
        self.connections: list[sqlite3.Connection] = []
        self._error = error

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count calls inside this scope, and raise at the `at`th."""
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _profile(self, _frame: FrameType, event: str, argument: Any) -> None:
        ends = "c_return" if getattr(argument, "__name__", "") == "__exit__" else "c_call"
        called = getattr(argument, "__self__", None)
        if event == ends and isinstance(called, sqlite3.Connection | sqlite3.Cursor):
            self.seen += 1
            self.connections.append(called.connection if isinstance(called, sqlite3.Cursor) else called)
            if self.seen == self.at:
                self.has_raised = True
                raise self._error("at a call into sqlite3")


def tasks() -> "frozenset[asyncio.Task[Any]]":
    """The tasks of the running event loop that have not ended; none in trio: a call ends after those it starts."""
    return frozenset(asyncio.all_tasks() if the_loop() is asyncio else ())


async def quiet(others: "frozenset[asyncio.Task[Any]] | None" = None) -> None:
    """Wait until all other threads of this process are idle; then, if `others` are given, until all other tasks are.

    A task that goes on in the background, as one in ``asyncio.shield`` does, is waited for until it ends, or waits for
    one thing for several turns of the loop, such as a timer.
    """
    await _threads_quiet()
    turns, waits = 0, list[tuple[int, int]]()
    for _ in range(_POLLS):
        if others is None or turns >= _TURNS or not (left := tasks() - others):
            return
        for _ in range(_CALLBACKS):
            await asyncio.sleep(0)
        await _threads_quiet()
        now = sorted((id(one), id(getattr(one, "_fut_waiter", None))) for one in left)
        turns, waits = (turns + 1 if now == waits else 0), now


async def quiet_of(threads: Sequence[threading.Thread]) -> None:
    """Wait until these threads have ended or sleep, whatever others do; the loop then hears what they have told it."""
    before: dict[int | None, bytes | None] | None = None
    looks = 0
    for _ in range(_POLLS):
        now = {one.native_id: sleep_of(one.native_id) for one in threads if one.is_alive()}
        looks = looks + 1 if now == before and None not in now.values() else 0
        if not now or looks >= LOOKS:
            break
        before = now
        real_sleep(POLL_S)
    for _ in range(_CALLBACKS):
        await asyncio.sleep(0)


async def _threads_quiet() -> None:
    loop = the_loop()
    for _ in range(_POLLS):
        if all_idle():
            return
        # Not a timer of the loop's: a test may have frozen its clock.
        real_sleep(POLL_S)
        await loop.sleep(0)


def holds_a_lock(database: Path) -> str:
    """The error that another writer of the database gets now; "" if no lock blocks it."""
    if not database.exists():
        return ""
    with contextlib.closing(connect_unwatched(database)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            return str(error)
    return ""
