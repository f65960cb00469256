"""An asynchronous store for a target: each of its calls is run to its end, on an event loop of its own.

A search makes one call after the other, and judges the store in between. All of them run in one context, as those of
a program's main coroutine do: a store may keep its connection in a context variable. What a call awaits gets faults on
whichever thread it runs (aiosqlite's has one for each connection); `tornpage limits` also cancels each call at its
awaits.

Not covered: trio, and stores that run in a loop of their own already.
"""

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final

from tornpage.faults.contention.awaits import quiet_of
from tornpage.scenarios.model.entered import Entered
from tornpage.scenarios.model.target import LoopInUseError

# A call by one of these names ends the store, and its loop.
_CLOSING: Final = ("close", "aclose", "disconnect", "__aexit__", "stop", "dispose")


_RUNS_ALREADY: Final = (
    "two threads call one asynchronous store, whose calls run on one event loop; let `make` return what `awaited` "
    'returns to have them switched there, or leave "shared" out of `callers`'
)


def awaited(store: Any, *openings: str) -> "Awaited":
    """The store with calls that wait for their end.

    `store` is the store, or an awaitable that returns it (``Notes.connect(path)``). `openings` name methods without
    arguments that are called first, such as "connect", or "__aenter__" for ``async with``. The store is closed by its
    ``close``, ``aclose``, ``disconnect``, ``__aexit__``, ``stop`` or ``dispose``, whichever it has, also where
    its opening fails. Raises what they raise.
    """
    return Awaited(store, openings)


_RUNS: ContextVar[Callable[[Coroutine[Any, Any, Any]], Any] | None] = ContextVar("tornpage_awaited", default=None)


@contextlib.contextmanager
def run_by(run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Iterator[None]:
    """Inside this scope `run` gets each coroutine to be run to its end, and returns its value."""
    token = _RUNS.set(run)
    try:
        yield
    finally:
        _RUNS.reset(token)


def unwrapped(store: Any) -> Any:
    """The store that `awaited` was given, or that was entered; any other one as it is."""
    return store._store if isinstance(store, Awaited | Entered) else store


class Awaited:
    """What `awaited` returns: it has every attribute of the store."""

    def __init__(self, store: Any, openings: Sequence[str]) -> None:
        # With a factory it leaves the thread's current loop alone.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        before = {*threading.enumerate()}
        try:
            self._store = self._end_of(store)
            for opening in openings:
                self._end_of(getattr(self._store, opening)())
        except BaseException as error:
            # A connection keeps its thread, and the thread its connection: the collector would never close it.
            if isinstance(error, Exception) and "_store" in vars(self):
                with contextlib.suppress(Exception):
                    self._close_store()
            # A thread that has failed to connect, and has been stopped, reports that to the loop.
            self._loop.run_until_complete(quiet_of([one for one in threading.enumerate() if one not in before]))
            self._end()
            raise

    def __getattr__(self, name: str) -> Any:
        if name == "_store":
            raise AttributeError(name)
        value = getattr(self._store, name)
        return self._waiting(value) if inspect.isroutine(value) else value

    def close(self) -> None:
        """Close the store, and the loop whatever happens."""
        try:
            self._close_store()
        finally:
            self._end()

    def _close_store(self) -> None:
        closing = next((name for name in _CLOSING if callable(getattr(self._store, name, None))), None)
        if closing is not None:
            arguments = (None, None, None) if closing == "__aexit__" else ()
            self._end_of(getattr(self._store, closing)(*arguments))

    def _waiting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            return self._end_of(method(*arguments, **named))

        return call

    def _end_of(self, returned: Any) -> Any:
        """The value of what may be awaited; of an asynchronous generator all that it yields."""
        if inspect.isasyncgen(returned):
            returned = _all_of(returned)
        if not inspect.isawaitable(returned):
            return returned
        run = _RUNS.get() or self.run
        return run(returned if inspect.iscoroutine(returned) else _value_of(returned))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end on the store's loop. Raises `LoopInUseError`."""
        if self._loop.is_running() and asyncio._get_running_loop() is None:
            coroutine.close()
            raise LoopInUseError(_RUNS_ALREADY)
        return self._runner.run(coroutine)

    def _end(self) -> None:
        """Cancel what still runs, and close the loop."""
        try:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                # No caller gets what they raise then; the runner would report it.
                self._loop.run_until_complete(asyncio.wait(left))
        finally:
            self._runner.close()


async def _value_of(awaitable: Any) -> Any:
    return await awaitable


async def _all_of(values: AsyncIterator[Any]) -> list[Any]:
    return [value async for value in values]
