"""Awaits as fault points: pause or cancel a coroutine when it yields to the event loop for the nth time.

This is what happens to a real task: it is cancelled while it waits, and the awaited work goes on (a statement that was
passed to another thread still runs). For code without awaits: raise an exception such as KeyboardInterrupt at the nth
call into a connection of ``sqlite3``, as a signal handler would.
"""

import asyncio
import contextlib
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tornpage.faults.contention.turns import Quiet
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.arm import connect_unwatched

_POLL_S: Final = 0.002
_POLLS: Final = 1_000


class Awaits:
    """Counts the yields of a coroutine to the event loop; acts at the `at`th (0: never)."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.seen = 0
        self.was_cancelled = False

    async def cancelled(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` in a task and cancel it at its `at`th await; raises `asyncio.CancelledError`."""
        task: asyncio.Task[Any] = asyncio.ensure_future(self._stepped(work, lambda: self._cancel(task)))
        return await task

    async def beside(self, work: Coroutine[Any, Any, Any], other: Callable[[], Awaitable[Any]]) -> tuple[Any, Any]:
        """Run `work` up to its `at`th await, then `other` to its end, then the rest of `work`; return both results.

        If `work` ends before its `at`th await, `other` runs after it.
        """
        results: list[Any] = []

        async def meanwhile() -> None:
            results.append(await settled(other()))

        first = await settled(self._stepped(work, None, meanwhile))
        if not results:
            await meanwhile()
        return first, results[0]

    def _cancel(self, task: "asyncio.Task[Any]") -> None:
        self.was_cancelled = task.cancel()

    @types.coroutine
    def _stepped(
        self,
        work: Coroutine[Any, Any, Any],
        at_once: Callable[[], None] | None = None,
        meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = lambda: work.send(None)  # noqa: E731 - replaced at each step
        while True:
            try:
                waits_for = resume()
            except StopIteration as ended:
                return ended.value
            self.seen += 1
            if self.seen == self.at and meanwhile is not None:
                yield from meanwhile().__await__()
            if self.seen == self.at and at_once is not None:
                asyncio.get_running_loop().call_soon(at_once)
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - the coroutine handles every exception
                resume = _throwing(work, error)
            else:
                resume = _sending(work, value)


def _throwing(work: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(error)


def _sending(work: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: work.send(value)


async def settled(work: Awaitable[Any]) -> Any:
    """Await `work`; return its result, or the exception that it raised."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - it is the result
        return error


class Calls:
    """Counts the calls of this thread into ``sqlite3``, and raises an exception at the `at`th (0: never).

    It comes up before the call; at the end of a ``with connection:`` after it, when that has committed. Between
    the last statement of the block and that end Python runs no handler: of 10,931 interrupts by a timer (on 3.11
    and 3.13) none left the transaction open.
    """

    def __init__(self, at: int = 0, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.at = at
        self.seen = 0
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
        if event == ends and isinstance(getattr(argument, "__self__", None), sqlite3.Connection | sqlite3.Cursor):
            self.seen += 1
            if self.seen == self.at:
                raise self._error("at a call into sqlite3")


async def quiet() -> None:
    """Wait until all other threads of this process are idle."""
    looks = Quiet()
    for _ in range(_POLLS):
        if looks.lasts():
            return
        await asyncio.sleep(_POLL_S)


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
