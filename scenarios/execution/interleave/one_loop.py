"""Two calls of one asynchronous store (`awaited`), as two tasks of its event loop, switched at the first one's awaits.

Method. A target makes a call and gets its answer, so each call has a thread; whatever it awaits runs on the store's
loop, and meanwhile the thread waits. The loop is run here, and the threads run one at a time, while it stands. Both
calls are tasks in turns (`faults.contention.coroutines`): the first up to its nth await, the second to its end, then
the rest of the first; the second may stand at an await of its own, too. Its thread starts when it has the turn.

Not covered: a store that hides what `awaited` returned in an object of its own.
"""

import threading
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, Final

from tornpage.faults.contention.coroutines import Pair, Unsettled
from tornpage.faults.contention.lines import line_of_await
from tornpage.faults.contention.schedule import Hop
from tornpage.faults.contention.turns import Ended, Paused, Point
from tornpage.scenarios.model.ambient import calling_as
from tornpage.scenarios.model.awaited import Awaited, run_by
from tornpage.scenarios.model.target import TargetError

_AWAIT: Final = "await"
_NAMES: Final = "AB"

Work = Callable[[], Any]


class _Call:
    """A call on a thread of its own."""

    def __init__(self, name: str, work: Work) -> None:
        self._name, self._work = name, work
        # What it awaits, one after the other, and None at its end; and what that came to.
        self._asked, self._answers = SimpleQueue[Any](), SimpleQueue[Any]()
        self._result: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    async def on_loop(self) -> Any:
        """Make it; returns its result, or raises what it raises."""
        self._thread.start()
        while (awaitable := self._asked.get()) is not None:
            answer: tuple[Any, BaseException | None]
            try:
                with calling_as(self._name):
                    answer = await awaitable, None
            except BaseException as error:  # noqa: BLE001 - the call's own, to handle
                answer = None, error
            self._answers.put(answer)
        self._thread.join()
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def _run(self) -> None:
        try:
            with run_by(self._awaited):
                self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised by `on_loop`
            self._result = error
        finally:
            self._asked.put(None)

    def _awaited(self, awaitable: Awaitable[Any]) -> Any:
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
    first, second = map(_Call, _NAMES, works)

    def ended(index: int, result: Any, seen: int) -> None:
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
        store.run(together())
    except Unsettled as unsettled:
        raise TargetError(f"two calls of one asynchronous store can't be judged: {unsettled}") from unsettled
