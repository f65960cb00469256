"""Cancellation: a call of an asynchronous store is cancelled at its nth await.

It applies to a coroutine that is run by ``loop.run_until_complete``, ``asyncio.run`` or a Runner: the task is cancelled
while it waits, as by a timeout or a closed connection. The awaited work goes on; before the error is raised, the
harness waits until all other threads are idle, and all tasks that the call has started.

Not covered: trio, and coroutines that a loop in another thread runs.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from unittest import mock

from tornpage.faults.contention.awaits import Awaits, quiet, tasks
from tornpage.faults.limits.limit import Limit


class CallCancelledError(Exception):
    """Raised to the caller: its call was cancelled."""

    is_cancellation = True


class Cancellation(Limit):
    """Cancels a call at its `at`th await; None: only counts them."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self._at = at
        self._errors = (CallCancelledError,)  # type: ignore[assignment] # the only error that it causes

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Count the awaits of every coroutine that is run inside this scope, and cancel it at the `at`th."""
        loops, runners = asyncio.BaseEventLoop, asyncio.Runner
        run_until_complete, run = loops.run_until_complete, runners.run

        def on_loop(loop: Any, work: Any) -> Any:
            if not asyncio.iscoroutine(work):
                return run_until_complete(loop, work)
            return self._run(lambda one: run_until_complete(loop, one), work)

        def by_runner(runner: Any, work: Any, **options: Any) -> Any:
            return self._run(lambda one: run(runner, one, **options), work)

        with mock.patch.object(loops, "run_until_complete", on_loop), mock.patch.object(runners, "run", by_runner):
            yield

    def _run(self, run: Callable[[Any], Any], work: Coroutine[Any, Any, Any]) -> Any:
        awaits = Awaits(max((self._at or 0) - self.reached, 0))
        try:
            return run(_cut_short(awaits, work))
        except asyncio.CancelledError:
            if not awaits.was_cancelled:
                raise
            self.fired += 1
            raise CallCancelledError(f"cancelled at await {self._at}") from None
        finally:
            self.reached += awaits.seen


async def _cut_short(awaits: Awaits, work: Coroutine[Any, Any, Any]) -> Any:
    before = tasks()
    try:
        return await awaits.cancelled(work)
    except asyncio.CancelledError:
        await quiet(before)
        raise
