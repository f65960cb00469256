"""Callers that wait with a time limit: no deadlock, no real time, and one that is notified goes on at once."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tornpage import faults
from tornpage.faults.contention import turns
from tornpage.faults.contention.caller import Caller
from tornpage.faults.contention.schedule import Deadlock, alone, switch
from tornpage.faults.contention.turns import Ended, Gate

# Longer than any test may take.
LONG_S = 1_000.0


@pytest.fixture
def two() -> Iterator[tuple[Caller, Caller]]:
    with faults.install() as shim, faults.waiting_in_virtual_time(shim):
        gate = Gate()
        callers = Caller("A", gate), Caller("B", gate)
        yield callers
        for one in callers:
            one.close()


def results(two: tuple[Caller, Caller], first: Callable[[], Any], second: Callable[[], Any]) -> list[Any]:
    one, other = two
    one.start(first)
    other.start(second)
    ended = {hop.caller: hop.event.result for hop in switch(one, other) if isinstance(hop.event, Ended)}
    return [ended["A"], ended["B"]]


def waits(condition: threading.Condition, limit_s: float) -> bool:
    with condition:
        return condition.wait(limit_s)


def test_two_that_wait_for_what_never_comes_return_at_their_limits_the_nearest_first(
    two: tuple[Caller, Caller],
) -> None:
    condition, order = threading.Condition(), list[str]()

    def wait(name: str, limit_s: float) -> float:
        began = time.monotonic()
        assert not waits(condition, limit_s)
        order.append(name)
        return round(time.monotonic() - began)

    assert results(two, lambda: wait("far", LONG_S), lambda: wait("near", 10)) == [LONG_S, 10]
    assert order == ["near", "far"]


def test_one_that_is_notified_goes_on_before_its_limit(two: tuple[Caller, Caller]) -> None:
    condition = threading.Condition()

    def notify() -> None:
        with condition:
            condition.notify()

    assert results(two, lambda: waits(condition, LONG_S), notify) == [True, None]


def test_one_that_sleeps_may_still_notify_the_other_one_until_its_limit(two: tuple[Caller, Caller]) -> None:
    condition = threading.Condition()

    def notify_later(after_s: float) -> None:
        for _ in range(10):
            time.sleep(after_s / 10)
        with condition:
            condition.notify()

    assert results(two, lambda: waits(condition, LONG_S), lambda: notify_later(900)) == [True, None]
    assert results(two, lambda: waits(condition, LONG_S), lambda: notify_later(2_000)) == [False, None]


def test_what_waits_in_a_condition_ends_at_its_limit_too(two: tuple[Caller, Caller]) -> None:
    nothing: queue.Queue[str] = queue.Queue()

    def get() -> str:
        return nothing.get(timeout=LONG_S)

    got, was_set = results(two, get, lambda: threading.Event().wait(LONG_S))
    assert isinstance(got, queue.Empty)
    assert was_set is False
    one, _ = two
    assert one.do(lambda: threading.Semaphore(0).acquire(timeout=LONG_S)) is False
    assert one.do(lambda: threading.Condition().acquire()) is True


def test_the_answer_of_a_thread_that_still_works_is_waited_for(two: tuple[Caller, Caller]) -> None:
    def work() -> int:
        return sum(number for number in range(1_000_000))

    with ThreadPoolExecutor(1) as pool:
        one, _ = two
        assert one.do(lambda: pool.submit(work).result(timeout=0.001 + LONG_S)) == 499_999_500_000


def test_two_that_look_again_until_a_time_of_their_own_are_no_deadlock(two: tuple[Caller, Caller]) -> None:
    def poll() -> str:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            time.sleep(0.1)
        return "nothing came"

    assert results(two, poll, poll) == ["nothing came", "nothing came"]


@pytest.mark.slow
def test_a_wait_without_a_limit_is_a_deadlock(two: tuple[Caller, Caller]) -> None:
    one, other = two
    forever = threading.Condition()

    def wait() -> None:
        with forever:
            forever.wait()

    one.start(wait)
    other.start(lambda: waits(threading.Condition(), LONG_S))
    with pytest.raises(Deadlock, match="A is blocked, and B has ended"):
        switch(one, other)
    with forever:
        forever.notify_all()


@pytest.mark.slow
def test_one_that_waits_again_and_again_with_a_limit_does_not_return(two: tuple[Caller, Caller]) -> None:
    one, _ = two
    is_over = threading.Event()

    def wait() -> None:
        while not is_over.is_set():
            waits(threading.Condition(), 100)

    one.start(wait)
    with pytest.raises(Deadlock, match="A does not return"):
        alone(one)
    is_over.set()


@pytest.mark.parametrize("name", ["lock", "queue", "thread"])
def test_a_limit_that_passes_in_real_time_is_no_deadlock(
    two: tuple[Caller, Caller], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would be taken to be stuck long before.
    monkeypatch.setattr(turns, "_STUCK", 2)
    lock, nothing, ends = threading.Lock(), queue.SimpleQueue[str](), threading.Event()
    thread = threading.Thread(target=ends.wait)
    thread.start()

    def get() -> bool:
        try:
            return bool(nothing.get(timeout=0.3))
        except queue.Empty:
            return False

    def join() -> bool:
        thread.join(timeout=0.3)
        return not thread.is_alive()

    def wait() -> bool:
        return {"lock": lambda: lock.acquire(timeout=0.3), "queue": get, "thread": join}[name]()

    try:
        with lock:
            assert results(two, wait, wait) == [False, False]
            assert two[0].do(wait) is False
            if name == "lock":
                with pytest.raises(Deadlock):
                    two[0].do(lock.acquire)
    finally:
        ends.set()
        thread.join()
