"""The tasks that a call begins, and those that these begin, in asyncio and in trio: something is done at their steps.

``gather``, ``wait_for`` (up to Python 3.11), a task group and a nursery are one await of the call, while their tasks
go from statement to statement. A task belongs to the call in whose context it was begun.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar
from typing import Any, Final

from tornpage.faults.contention.loops import the_loop

# Makes the steps of a coroutine, and yields to the event loop what that yields.
Steps = Callable[[Coroutine[Any, Any, Any]], Generator[Any, Any, Any]]
_STEPS: Final[ContextVar[Steps | None]] = ContextVar("tornpage_steps", default=None)


@contextlib.contextmanager
def begun_by(steps: Steps) -> Iterator[None]:
    """Inside this scope, `steps` makes the steps of each task that this task begins, where tasks are `watched`."""
    before = _STEPS.set(steps)
    try:
        yield
    finally:
        _STEPS.reset(before)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Inside this scope, the running event loop knows the tasks that calls begin (`begun_by`)."""
    if (loop := the_loop()) is not asyncio:
        with _instrumented(loop.lowlevel):
            yield
        return
    running = asyncio.get_running_loop()
    before = running.get_task_factory()

    def begun(loop: asyncio.AbstractEventLoop, work: Any, **named: Any) -> Any:
        steps = _STEPS.get()
        made = work if steps is None else _Stepped(work, steps)
        return asyncio.Task(made, loop=loop, **named) if before is None else before(loop, made, **named)

    running.set_task_factory(begun)
    try:
        yield
    finally:
        running.set_task_factory(before)


@contextlib.contextmanager
def _instrumented(lowlevel: Any) -> Iterator[None]:
    spawned = _Spawned()
    lowlevel.add_instrument(spawned)
    try:
        yield
    finally:
        lowlevel.remove_instrument(spawned)


class _Spawned:
    """An instrument of trio."""

    def task_spawned(self, task: Any) -> None:
        """A task is there, and has not made its first step."""
        steps = task.context.get(_STEPS)
        if steps is not None:
            task.coro = _Stepped(task.coro, steps)


class _Stepped(Coroutine[Any, Any, Any]):
    """The coroutine of a task, whose steps are made by `steps`."""

    def __init__(self, work: Coroutine[Any, Any, Any], steps: Steps) -> None:
        self._work = work
        self._steps = steps(work)
        self._has_begun = False

    def __getattr__(self, name: str) -> Any:
        # Such as its frame, and whether it is suspended.
        return getattr(self._work, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps

    def send(self, value: Any) -> Any:
        self._has_begun = True
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        # Cancelled before its first step, it makes none.
        return self._steps.throw(*error) if self._has_begun else self._work.throw(*error)

    def close(self) -> None:
        self._steps.close()
        self._work.close()
