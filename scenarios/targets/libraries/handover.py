"""A queue between the caller and sqlitedict's writer thread that lets only one of them run at a time.

sqlitedict passes each statement to its own thread through one queue, and waits for rows, or for the end of a COMMIT, at
another. With a `Handover` in place of ``queue.Queue`` the requesting thread continues when the writer asks for the next
request, or has ended. The library allows this schedule, in which the writer is always fast, and it is the same in each
run. It also detects an endless wait: the queue is empty, and the writer is idle or has ended.

Not covered: every other schedule.
"""

import contextlib
import gc
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest import mock

import sqlitedict

from tornpage.faults.locks import live_threads

_CLOSE: Final = "--close--"
_ENDS_WITHIN_S: Final = 10.0


class WaitsForEverError(Exception):
    """The library would now wait for an answer that never comes."""


class Handover:
    """Replaces the queues of one `sqlitedict.SqliteDict`, for both requests and answers."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._given = self._taken = self._served = 0
        # Whether the writer that reads from this queue has ended without being asked to.
        self._ended = False

    def put(self, item: Any) -> None:
        """Hand something over; a request is served before this returns."""
        if _in_a_writer():
            self._items.append(item)
            return
        writer = self._writer()
        with self._changed:
            self._items.append(item)
            self._given += 1
            self._changed.notify_all()
            if writer is not None and item[0] != _CLOSE:
                self._changed.wait_for(lambda: self._ended or self._served == self._given)
        if writer is not None and (self._ended or item[0] == _CLOSE):
            # It closes its connection on its way out.
            writer.join()

    def get(self) -> Any:
        """Take the next item; raises `WaitsForEverError` if the caller would wait forever."""
        if not _in_a_writer():
            if not self._items:
                raise WaitsForEverError("the writer thread has ended, and its answer is waited for without end")
            return self._items.popleft()
        with self._changed:
            self._served = self._taken
            self._changed.notify_all()
            self._changed.wait_for(lambda: bool(self._items))
            self._taken += 1
            return self._items.popleft()

    def end(self) -> None:
        """Record that the writer ends without being asked to."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _writer(self) -> threading.Thread | None:
        return next((one for one in _writers() if one.reqs is self), None)


def _in_a_writer() -> bool:
    return isinstance(threading.current_thread(), sqlitedict.SqliteMultithread)


def _writers() -> list[Any]:
    return [one for one in live_threads() if isinstance(one, sqlitedict.SqliteMultithread)]


@contextlib.contextmanager
def by_turns() -> Iterator[list[str]]:
    """Replace queues created in this scope by handovers; yields the reasons why writers have ended in it, in words."""
    reasons: list[str] = []
    otherwise = threading.excepthook

    def ended(outcome: Any) -> None:
        if isinstance(outcome.thread, sqlitedict.SqliteMultithread) and isinstance(outcome.thread.reqs, Handover):
            # Only in words: an error's frames would keep the connection.
            reasons.append(f"{outcome.exc_type.__name__}: {outcome.exc_value}")
            outcome.thread.reqs.end()
        else:
            otherwise(outcome)

    with mock.patch.object(sqlitedict, "Queue", Handover), mock.patch.object(threading, "excepthook", ended):
        yield reasons


def opened(make: Callable[[], Any]) -> Any:
    """The result of `make`; if it raises, the writers that it has started have ended first.

    Raises `TimeoutError` if one does not end.
    """
    before = set(_writers())
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - it is raised again below
        # The frames hold an incomplete dictionary; when it is freed, it tells its writer to end.
        failure = error.with_traceback(None)
    for writer in set(_writers()) - before:
        writer.join(_ENDS_WITHIN_S)
        if writer.is_alive():
            raise TimeoutError("the thread of a dictionary that could not be opened does not end") from failure
    # A connection of Python's refers to itself, is young, and a writer that could not set it up has not closed it.
    gc.collect(1)
    raise failure
