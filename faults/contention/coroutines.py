"""Two coroutines of one event loop in turns: the first up to its nth await, then the second, then the rest.

The second one goes to its end, or to an await of its own. Each runs in a task of its own, and it, and the tasks that it
begins (`begun_tasks`), make a step only while it has the turn; once it has ended, what is left of these runs freely.
The end of such a task counts as an await. If the one with the turn can't go on, the tasks that the other one has begun
help, while that one stands: it may wait for a worker that the other one's call has begun. If that is not enough (the
other one holds what it waits for: an asyncio lock, a lock of the database), the other one gets the turn; so a sound
pair ends, and the same schedule makes the same steps. A worker thread that waits in SQLite's busy handler waits for the
other coroutine, in virtual time. When neither goes on in its turn, both run freely, as in a loop without turns; if
still neither makes a step for a long time, or no timer and no thread is left that could let one go on, they wait for
each other.

A coroutine can't go on if all threads of the process sleep, as the system reports it: a thread that waits for a
processor is awake. If that can't be settled (a thread stays awake for ten seconds), the schedule can't be judged:
`Unsettled`.

It works in asyncio and in trio. Not covered: timers (they take their real time, and a long one gives the turn away),
and systems without /proc, where two seconds without a step count as sleep.
"""

import asyncio
import contextlib
import functools
import inspect
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any, Final

from tornpage.faults.contention.awaits import always_awaited, sending, throwing
from tornpage.faults.contention.begun_tasks import begun_by, watched
from tornpage.faults.contention.idle import all_idle, all_wait_for_locks, is_reported, real_monotonic, real_sleep
from tornpage.faults.contention.lines import stack_of
from tornpage.faults.contention.loops import the_loop
from tornpage.faults.contention.schedule import Deadlock
from tornpage.faults.vfs import waiting

# A caller that makes no step in so many polls, while all threads sleep, can't go on: in each of them the loop handles
# what is due, so a timer below 30 ms ends first, also on a busy machine.
_IDLE_POLLS: Final = 60
# Then the second one begins although a thread that the first one doesn't wait for is awake.
_IDLE_IN_ANY_CASE_S: Final = 2.0
_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.0005
# A task that wakes up by a timer does so for ever.
_MOST_HELPS: Final = 3
_NAMES: Final = "AB"
_NEITHER: Final = -1
# Exceptions that end the loop, or the test.
_ENDS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)

Work = Callable[[], Awaitable[Any]]


class Unsettled(Exception):  # noqa: N818 - neither a finding nor an error
    """Threads stay awake, so whether a coroutine can go on is unknown."""


class Pair:
    """Runs two coroutine functions once. `seen` are the awaits of each, `was_switched` whether it was at the `at`th.

    Those of the tasks that they begin count, too. The second one stands at its `back`th await (0: at none). `stood`
    gets the index of one that stands, and its coroutine; `ended` the index, the result and the number of awaits of each
    when it has ended. What they raise ends the run.
    """

    def __init__(
        self,
        at: int = 0,
        back: int = 0,
        *,
        stood: Callable[[int, Any], None] = lambda *_: None,
        ended: Callable[[int, Any, int], None] = lambda *_: None,
    ) -> None:
        self.at, self.back = at, back
        self._tell_stood, self._tell_ended = stood, ended
        self.seen = [0, 0]
        self.was_switched = False
        self._loop: Any = the_loop()
        self._results: list[Any] = [None, None]
        self._has_ended = [False, False]
        # Tasks that are ready to make their next step, or have ended, and wait for nothing but the turn; the task that
        # made the last step before the switch, and which coroutine gets the turn.
        self._ready: set[object] = set()
        self._stood: object = None
        self._next = 1
        # What runs of each: itself, and its tasks.
        self._works: list[list[Any]] = [[], []]
        # Whose turn it is (None: both run, -1: neither), how often that has changed, and what waits for it.
        self._turn: int | None = 0
        self._changes = 0
        # How often in this turn the tasks of the other one were allowed to go on, and the steps made by then.
        self._helps, self._helped_at = 0, -1
        self._changed = self._loop.Event()
        self._threads = threading.Condition()
        self._failure: BaseException | None = None
        self._is_over = False

    async def run(self, first: Work, second: Work) -> list[Any]:
        """Both results; an exception that a coroutine raised is its result. Raises `Deadlock`, `Unsettled`."""
        loop_thread = threading.get_ident()

        def thread_waits(_for_what: str) -> None:
            if threading.get_ident() != loop_thread:
                self._hold()

        waiting.anywhere.append(thread_waits)
        try:
            with always_awaited(), watched():
                await self._run(first, second)
        finally:
            waiting.anywhere.remove(thread_waits)
            self._give(None)
        if self._failure is not None:
            raise self._failure
        return self._results

    async def _run(self, first: Work, second: Work) -> None:
        async with self._tasks(self._worked(0, first), self._worked(1, second)):
            try:
                await self._watched()
            finally:
                self._is_over = True
                self._give(None)

    @contextlib.asynccontextmanager
    async def _tasks(self, *works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        if self._loop is asyncio:
            tasks = [asyncio.ensure_future(work) for work in works]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            return
        async with self._loop.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(_itself, work)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()

    async def _worked(self, index: int, work: Work) -> None:
        try:
            with begun_by(functools.partial(self._begun, index)):
                if (raised := await self._turn_of(index, self)) is not None:
                    raise raised  # noqa: TRY301 - as the wait has
                made = _awaited(work())
                self._works[index].append(made)
                self._results[index] = await self._stepped(index, made, self)
        except BaseException as error:
            # Its own: also one such as `pytest.fail` raises, or a cancellation by its own code.
            if self._is_over or isinstance(error, (*_ENDS, *_cancelled_by_trio(self._loop))):
                raise
            self._results[index] = error
        finally:
            self._has_ended[index] = True
            if not self._is_over:
                self._tell(self._tell_ended, index, self._results[index], self.seen[index])
            self._give(None if all(self._has_ended) else 1 - index)

    def _tell(self, whom: Callable[..., None], *what: Any) -> None:
        try:
            whom(*what)
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            self._failure = error

    @types.coroutine
    def _begun(self, index: int, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        me = object()
        self._works[index].append(work)
        try:
            return (yield from self._stepped(index, work, me))
        finally:
            self._works[index].remove(work)
            # Between its end and the next step of what waits for it the other one may run.
            self._ready.add(me)
            self._has_yielded(index, me)

    @types.coroutine
    def _stepped(self, index: int, work: Coroutine[Any, Any, Any], me: object) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = sending(work, None)
        while True:
            raised = yield from self._turn_of(index, me).__await__()
            if raised is not None:
                resume = throwing(work, raised)
            try:
                waits_for = resume()
            except StopIteration as ended:
                return ended.value
            self._has_yielded(index, me)
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - the coroutine handles every exception
                resume = throwing(work, error)
            else:
                resume = sending(work, value)

    def _has_yielded(self, index: int, me: object) -> None:
        if self._has_ended[index]:
            return
        self.seen[index] += 1
        if index == 0 and self.seen[0] == self.at and not self._has_ended[1]:
            self.was_switched = True
        elif not (index == 1 and self.seen[1] == self.back and self.was_switched and not self._has_ended[0]):
            return
        self._stood, self._next = me, 1 - index
        self._tell(self._tell_stood, index, self._works[index][0])
        self._give(_NEITHER)

    # -- turns ---------------------------------------------------------------------------------------------

    async def _turn_of(self, index: int, me: object) -> BaseException | None:
        """Wait for the turn; return what was raised in the waiting task meanwhile, such as its cancellation."""
        raised: BaseException | None = None
        self._ready.add(me)
        while not self._may_go_on(index, me):
            try:
                with self._shielded():
                    await self._changed.wait()
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the coroutine handles it, in its turn
                raised = error
        self._ready.discard(me)
        return raised

    def _may_go_on(self, index: int, me: object) -> bool:
        helps = self._helps and me is not self and self._turn == 1 - index
        return self._turn in (index, None) or self._has_ended[index] or bool(helps)

    def _shielded(self) -> Any:
        # What trio has waited for is there, and it cancels no such wait: its nurseries rely on that.
        return contextlib.nullcontext() if self._loop is asyncio else self._loop.CancelScope(shield=True)

    def _give(self, turn: int | None) -> None:
        self._helps = 0
        self._change(turn, 1)

    def _help(self) -> bool:
        """Let the tasks that the other one has begun go on in this turn; False if there is none that could."""
        turn, other = self._turn, 1 - (self._turn or 0)
        has_gone_on = not self._helps or self.seen[other] > self._helped_at
        if len(self._works[other]) < 2 or self._has_ended[other] or not has_gone_on or self._helps >= _MOST_HELPS:
            return False
        self._helps, self._helped_at = self._helps + 1, self.seen[other]
        # So often that a thread looks again at what it waits for.
        self._change(turn, 2)
        return True

    def _change(self, turn: int | None, steps: int) -> None:
        with self._threads:
            self._turn = turn
            self._changes += steps
            self._threads.notify_all()
        self._changed.set()
        self._changed = self._loop.Event()

    def _hold(self) -> None:
        """A thread waits in SQLite's busy handler, or sleeps: until the other coroutine has had its turn."""
        with self._threads:
            until = self._changes + 2
            self._threads.wait_for(lambda: self._changes >= until or self._turn is None or any(self._has_ended))

    async def _watched(self) -> None:
        """Until both have ended: give the turn to the other one when the one that has it can't go on."""
        before: tuple[int, ...] = ()
        since, polls, idle = real_monotonic(), 0, 0
        while not all(self._has_ended):
            # Not a timer of the loop's: a test may have frozen its clock.
            await self._loop.sleep(0)
            now, moment = (*self.seen, self._changes), real_monotonic()
            if now != before:
                idle = 0 if now[:2] != before[:2] else idle
                before, since, polls = now, moment, 0
                continue
            stood_s, polls = moment - since, polls + 1
            if self._turn == _NEITHER:
                # What one has passed to a thread is done before the other one begins, in each run.
                if (
                    all_idle()
                    or (stood_s > _IDLE_IN_ANY_CASE_S and self._stood in self._ready)
                    or self._is_late(stood_s)
                ):
                    self._give(self._next)
            else:
                real_sleep(_POLL_S)
                if self._turn is None and (stood_s > _PATIENCE_S or (polls > _IDLE_POLLS and self._is_over_for_good())):
                    self._failure = Deadlock(self._places(), "A and B wait for each other")
                elif self._turn is not None and ((polls > _IDLE_POLLS and all_idle()) or self._is_late(stood_s)):
                    if self._help():
                        continue
                    idle += 1
                    other = 1 - self._turn
                    self._give(None if idle > 2 or self._has_ended[other] else other)
            if self._failure is not None:
                return

    def _is_over_for_good(self) -> bool:
        """Whether nothing can make a step any more: no timer, no file and no thread; asyncio's own loop shows that."""
        if self._loop is not asyncio:
            return False
        loop = asyncio.get_running_loop()
        timers, selector = getattr(loop, "_scheduled", None), getattr(loop, "_selector", None)
        # It watches one file of its own, by which threads wake it up.
        return timers == [] and selector is not None and len(selector.get_map()) == 1 and all_wait_for_locks()

    def _is_late(self, stood_s: float) -> bool:
        """Whether no step was made for too long; where the system reports threads, nothing is known then."""
        if not is_reported():
            return stood_s > _IDLE_IN_ANY_CASE_S
        if stood_s > _PATIENCE_S:
            self._failure = Unsettled(f"no step in {_PATIENCE_S:g} s, and a thread is awake all the time")
        return self._failure is not None

    def _places(self) -> dict[str, str]:
        waits = zip(_NAMES, self._works, self._has_ended, strict=True)
        return {name: " and ".join(map(_place_of, works)) for name, works, has_ended in waits if not has_ended}


def _place_of(work: Any) -> str:
    """Where a coroutine waits: the lines of it and of the coroutines that it awaits, the innermost first."""
    places = []
    while inspect.iscoroutine(work):
        places.append(stack_of(work.cr_frame).partition(" < ")[0])
        work = work.cr_await
    return " < ".join(reversed(list(filter(None, places))))


def _awaited(made: Any) -> Coroutine[Any, Any, Any]:
    if inspect.iscoroutine(made):
        return made

    async def awaited() -> Any:
        return await made

    return awaited()


def _cancelled_by_trio(loop: Any) -> tuple[type[BaseException], ...]:
    return () if loop is asyncio else (loop.Cancelled,)


async def _itself(work: Coroutine[Any, Any, None]) -> None:
    await work
