"""Two calls of one asynchronous store (`awaited`), as two tasks of its event loop, switched at the first one's awaits.

Method. A target makes a call and gets its answer, so each call has a thread; whatever it awaits runs on the store's
loop, and meanwhile the thread waits. The loop is run here, and the threads run one at a time, while it stands. Both
calls are tasks in turns (`faults.contention.coroutines`): the first up to its nth await, the second to its end, then
the rest of the first; the second may stand at an await of its own, too. Its thread starts when it has the turn.

A call that keeps the loop to itself, such as one that waits for a `threading.Lock` which the other one holds across an
await, is stopped after the time limit of two calls.

Not covered: a store that hides what `awaited` returned in an object of its own.
"""

import sys
import threading
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, Final

from tornpage.faults.contention.coroutines import Pair, Unsettled
from tornpage.faults.contention.lines import line_of_await, stack_of, stack_of_error
from tornpage.faults.contention.schedule import Deadlock, Hop
from tornpage.faults.contention.turns import Ended, Paused, Point
from tornpage.scenarios.execution.call_timeout import TookTooLongError, in_time
from tornpage.scenarios.model.ambient import calling_as
from tornpage.scenarios.model.awaited import Awaited, run_by
from tornpage.scenarios.model.target import TargetError

_AWAIT: Final = "await"
_NAMES: Final = "AB"
_NOT_JUDGED: Final = "two calls of one asynchronous store can't be judged"

Work = Callable[[], Any]


class _Call:
    """A call on a thread of its own."""

    def __init__(self, name: str, work: Work) -> None:
        self._name, self._work = name, work
        # Where it was stopped, if it kept the loop to itself.
        self.blocks_at = ""
        # What it awaits, one after the other, and None at its end; and what that came to.
        self._asked, self._answers = SimpleQueue[Any](), SimpleQueue[Any]()
        self._result: Any = None
        self._thread = threading.Thread(target=self._run, name=f"call {name}", daemon=True)

    async def on_loop(self) -> Any:
        """Make it; returns its result, or raises what it raises."""
        self._thread.start()
        while (awaitable := self._next()) is not None:
            answer: tuple[Any, BaseException | None]
            try:
                with calling_as(self._name):
                    answer = await awaitable, None
            except BaseException as error:  # noqa: BLE001 - the call's own, to handle
                if isinstance(error, TookTooLongError):
                    self.blocks_at = self.blocks_at or stack_of_error(error)
                answer = None, error
            self._answers.put(answer)
        self._thread.join()
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def _next(self) -> Any:
        """What it awaits next. Meanwhile it runs, on its thread, and nothing else does."""
        try:
            return self._asked.get()
        except TookTooLongError:
            self.blocks_at = stack_of(sys._current_frames().get(self._thread.ident or 0))
            raise

    def _run(self) -> None:
        try:
            with run_by(self._awaited):
                self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised by `on_loop`
            self._result = error
        finally:
            self._asked.put(None)

    def _awaited(self, awaitable: Awaitable[Any]) -> Any:
        if self.blocks_at:
            # Nothing runs it any more.
            raise TookTooLongError(self.blocks_at)
        self._asked.put(awaitable)
        value, error = self._answers.get()
        if error is not None:
            raise error
        return value


def switched(
    store: Awaited,
    works: tuple[Work, Work],
    stops: tuple[int, int],
    hops: list[Hop],
    at_switch: Callable[[Hop], None] | None,
) -> None:
    """Make both calls, each up to the await of this number (0: to its end), and append the turns to `hops`.

    `at_switch` gets the turn at whose end the first of them has ended, while the other one stands. Raises `Deadlock`,
    and `TargetError` if the schedule can't be judged.
    """
    calls = first, second = _Call(_NAMES[0], works[0]), _Call(_NAMES[1], works[1])

    def ended(index: int, result: Any, seen: int) -> None:
        if stack := calls[index].blocks_at:
            raise Deadlock({_NAMES[index]: stack}, f"{_NAMES[index]} keeps the event loop to itself")
        if isinstance(result, BaseException):
            raise result
        hops.append(Hop(_NAMES[index], Ended(seen, result)))
        if at_switch is not None and sum(isinstance(hop.event, Ended) for hop in hops) == 1:
            at_switch(hops[-1])

    def stood(index: int, work: Any) -> None:
        hops.append(Hop(_NAMES[index], Paused(Point(stops[index], _AWAIT, line_of_await(work)))))

    async def together() -> None:
        # It takes the loop that runs.
        await Pair(*stops, ended=ended, stood=stood).run(first.on_loop, second.on_loop)

    try:
        with in_time("two calls of one event loop", calls=2):
            store.run(together())
    except TookTooLongError as hang:
        raise TargetError(f"{_NOT_JUDGED}: {hang}") from hang
    except Unsettled as unsettled:
        raise TargetError(f"{_NOT_JUDGED}: {unsettled}") from unsettled
