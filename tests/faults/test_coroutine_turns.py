"""Two coroutines in turns: the same awaits in every run, and no verdict where none can be had. What passes on work."""

import asyncio
import contextlib
import queue
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from tornpage.faults.contention import coroutines
from tornpage.faults.contention.awaits import Awaits
from tornpage.faults.contention.calls import calls_of_this_thread
from tornpage.faults.contention.coroutines import Pair, Unsettled
from tornpage.faults.contention.schedule import Deadlock


class AtOnce(Executor):
    """An executor whose thread has always ended before its caller goes on."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(function(*args, **options))
        return done


async def passes_on() -> int:
    return await asyncio.get_running_loop().run_in_executor(AtOnce(), lambda: 1)


async def none() -> None:
    pass


def test_an_executor_that_is_done_before_the_await_is_awaited_all_the_same() -> None:
    async def main() -> None:
        pair = Pair(1)
        assert await pair.run(passes_on, none) == [1, None]
        assert pair.seen == [1, 0]
        assert pair.was_switched

    asyncio.run(main())


def test_a_coroutine_can_be_cancelled_at_the_await_of_an_executor_that_is_done() -> None:
    async def main() -> None:
        awaits = Awaits(1)
        with pytest.raises(asyncio.CancelledError):
            await awaits.cancelled(passes_on())
        assert awaits.was_cancelled

    asyncio.run(main())


async def three_steps() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_the_awaits_of_the_tasks_that_a_call_begins_count_and_no_others_do() -> None:
    async def begins() -> None:
        await asyncio.gather(three_steps(), three_steps())
        asyncio.get_running_loop().create_task(three_steps())

    async def main() -> None:
        beside = asyncio.get_running_loop().create_task(three_steps())
        factory = asyncio.get_running_loop().get_task_factory()
        awaits = Awaits()
        await awaits.cancelled(begins())
        assert awaits.seen == 1 + 3 + 3
        assert asyncio.get_running_loop().get_task_factory() is factory
        await beside
        await three_steps()
        assert awaits.seen == 1 + 3 + 3
        for at in range(1, 8):
            awaits = Awaits(at)
            with pytest.raises(asyncio.CancelledError):
                await awaits.cancelled(begins())
            assert awaits.was_cancelled

    asyncio.run(main())


async def in_a_task(work: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.get_running_loop().create_task(work)


async def in_a_group(work: Coroutine[Any, Any, Any]) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
    return task.result()


async def gathered(work: Coroutine[Any, Any, Any]) -> Any:
    return (await asyncio.gather(work))[0]


class Counted:
    """A number that is counted up in tasks that a call begins."""

    def __init__(self, begin: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]) -> None:
        self.n = 0
        self.begin = begin

    async def lost(self) -> None:
        n = self.n
        await asyncio.sleep(0)
        self.n = n + 1

    async def kept(self) -> None:
        await asyncio.sleep(0)
        self.n += 1
        await asyncio.sleep(0)

    async def read(self) -> int:
        return self.n

    async def loses(self) -> None:
        await self.begin(self.lost())

    async def keeps(self) -> None:
        await self.begin(self.kept())

    async def loses_after_its_task(self) -> None:
        n = await self.begin(self.read())
        self.n = n + 1


async def counts_after(begin: Callable[..., Awaitable[Any]], call: str, at: int) -> tuple[list[int], int]:
    counted = Counted(begin)
    pair = Pair(at)
    assert await pair.run(getattr(counted, call), getattr(counted, call)) == [None, None]
    assert pair.was_switched == (at > 0)
    return pair.seen, counted.n


@pytest.mark.parametrize("begin", [in_a_task, in_a_group, gathered, lambda work: gathered(in_a_task(work))])
@pytest.mark.parametrize(("call", "least"), [("loses", 1), ("keeps", 2), ("loses_after_its_task", 1)])
def test_a_pair_is_switched_at_the_awaits_and_the_ends_of_its_tasks(begin: Any, call: str, least: int) -> None:
    seen, n = asyncio.run(counts_after(begin, call, 0))
    assert n == 2
    assert min(asyncio.run(counts_after(begin, call, at))[1] for at in range(1, seen[0] + 1)) == least


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks")
def test_a_task_that_begins_at_once_is_switched_too() -> None:
    async def main(at: int) -> int:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return (await counts_after(gathered, "loses", at))[1]

    assert [asyncio.run(main(at)) for at in (0, 1)] == [2, 1]


def test_a_task_that_is_cancelled_before_it_begins_does_nothing() -> None:
    async def cancels() -> None:
        task = asyncio.get_running_loop().create_task(passes_on())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    async def main() -> None:
        assert await Pair(1).run(cancels, cancels) == [None, None]

    asyncio.run(main())


@pytest.mark.parametrize("has_timer", [False, True])
def test_a_deadlock_names_where_the_tasks_wait(has_timer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one at once if nothing is left that could let one go on, such as a timer."""

    async def both(one: asyncio.Lock, two: asyncio.Lock) -> None:
        async with one:
            await asyncio.sleep(0)
            async with two:
                pass

    async def main() -> None:
        one, two = asyncio.Lock(), asyncio.Lock()
        if has_timer:
            asyncio.get_running_loop().call_later(60, two.release)
        await Pair(2).run(lambda: gathered(both(one, two)), lambda: gathered(both(two, one)))

    monkeypatch.setattr(coroutines, "_PATIENCE_S", 0.3 if has_timer else 30)
    with pytest.raises(Deadlock) as raised:
        asyncio.run(main())
    assert all("async with two" in place for place in raised.value.stacks.values())


@pytest.fixture
def awake() -> Iterator[None]:
    """A thread that never sleeps."""
    ends = threading.Event()

    def spin() -> None:
        while not ends.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    yield
    ends.set()
    thread.join()


async def meet(*, at: int) -> list[Any]:
    """The first one waits for the second one."""
    come = asyncio.Event()

    async def come_now() -> None:
        come.set()

    return await Pair(at).run(come.wait, come_now)


@pytest.mark.parametrize("at", [0, 1])
def test_a_coroutine_that_waits_for_the_other_one_gives_it_the_turn(at: int) -> None:
    assert asyncio.run(meet(at=at)) == [True, None]


@pytest.mark.usefixtures("awake")
@pytest.mark.parametrize("at", [0, 1])
def test_a_thread_that_stays_awake_leaves_the_schedule_unjudged(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    monkeypatch.setattr(coroutines, "_PATIENCE_S", 0.3)
    with pytest.raises(Unsettled, match="a thread is awake all the time"):
        asyncio.run(meet(at=at))


@pytest.mark.parametrize("kind", [queue.Queue, queue.SimpleQueue])
@pytest.mark.parametrize("put", ["put", "put_nowait"])
def test_each_way_to_put_work_into_a_queue_is_one_point(kind: type[Any], put: str) -> None:
    seen: list[str] = []
    with calls_of_this_thread(lambda name, _connection: seen.append(name), requests=True):
        getattr(kind(), put)("work")
    assert seen == [put]


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or coverage has the trace function")
def test_a_lock_that_an_exception_releases_is_a_point() -> None:
    seen: list[str] = []
    lock = threading.Lock()

    def fails() -> None:
        with lock:
            raise LookupError

    def note(name: str, _connection: object) -> None:
        seen.append(f"{name} {lock.locked()}")

    with contextlib.suppress(LookupError), calls_of_this_thread(note, requests=True):
        fails()
    assert seen == ["release False"]


def test_a_return_is_a_point_unless_the_next_call_follows_at_once() -> None:
    seen: list[str] = []

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT 1")
        connection.execute("SELECT 2")
        id(connection)
        connection.commit()

    with (
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        calls_of_this_thread(lambda *_: None, requests=False, returned=seen.append),
    ):
        work(connection)
    assert seen == ["execute", "commit"]
