"""The calls of a thread that another thread can get in between: those into ``sqlite3``, and those that pass on work.

A profile function sees them (`sys.setprofile`). Calls into a connection or cursor change the database. A store that
owns a writer thread makes those on that thread, for one caller at a time; the other caller gets in between two requests
to it: so a call that passes work to a queue, an executor, an event loop or an event counts, too.

Not covered: ``with lock:`` (it makes no call), and what runs between two awaits in an event loop on its own thread.
"""

import contextlib
import sqlite3
import sys
from _queue import SimpleQueue
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Final

_CALLED: Final = (sqlite3.Connection, sqlite3.Cursor)
_PASS_ON: Final = frozenset({"put", "put_nowait", "submit", "set", "run_coroutine_threadsafe", "call_soon_threadsafe"})
_LIBRARIES: Final = frozenset({"queue", "threading", "concurrent", "asyncio"})


def calls_of_this_thread(
    notify: Callable[[str, sqlite3.Connection | None], None], *, requests: bool
) -> AbstractContextManager[None]:
    """Inside this scope `notify` gets each such call of this thread, before it is made: its name and its connection.

    With `requests` it also gets the calls that pass on work; they have no connection.
    """

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            one = getattr(argument, "__self__", None)
            if isinstance(one, _CALLED):
                notify(argument.__name__, one.connection if isinstance(one, sqlite3.Cursor) else one)
            elif requests and isinstance(one, SimpleQueue) and argument.__name__ in _PASS_ON and not _is_library(frame):
                notify(argument.__name__, None)
        elif requests and event == "call" and frame.f_code.co_name in _PASS_ON and _is_entered(frame):
            notify(frame.f_code.co_name, None)

    return _profiled_by(profile)


def connections_called(called: list[sqlite3.Connection]) -> AbstractContextManager[None]:
    """Inside this scope append to `called` the connection of each call of this thread into ``sqlite3``."""

    def note(_name: str, connection: sqlite3.Connection | None) -> None:
        if connection is not None:
            called.append(connection)

    return calls_of_this_thread(note, requests=False)


@contextlib.contextmanager
def _profiled_by(profile: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)


def _is_entered(frame: FrameType) -> bool:
    return _is_library(frame) and not _is_library(frame.f_back)


def _is_library(frame: FrameType | None) -> bool:
    return frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES
