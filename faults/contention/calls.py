"""The calls of a thread that another thread can get in between: those into ``sqlite3``, and those that pass on work.

A profile function sees them (`sys.setprofile`). Calls into a connection or cursor change the database. A store that
owns a writer thread makes those on that thread, for one caller at a time; the other caller gets in between two requests
to it: so a call that passes work to a queue, an executor, an event loop or an event counts, too. So does, after
it, the release of a lock, and, before it, the taking of a condition, of a semaphore, or of something from a queue.

Between the return of a call and the next call a store may work on what it keeps in memory. So returns are reported,
too, unless the code goes straight on to the next call into ``sqlite3``, by the look of its bytecode.

An exception that leaves a ``with`` block is one, too, since it may release a lock (not under a debugger or coverage).

Not covered: what runs between two awaits in an event loop on its own thread.
"""

import contextlib
import dis
import functools
import sqlite3
import sys
import threading
from _queue import SimpleQueue
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import CodeType, FrameType
from typing import Any, Final

_CALLED: Final = (sqlite3.Connection, sqlite3.Cursor)
_PASS_ON: Final = frozenset({"put", "put_nowait", "submit", "set", "run_coroutine_threadsafe", "call_soon_threadsafe"})
# Functions of ``threading`` that take a condition or a semaphore, and of ``queue``.
_TAKE: Final = frozenset({"__enter__", "acquire", "get", "get_nowait"})
_ASKED: Final = _PASS_ON | _TAKE
_LOCKS: Final = (type(threading.Lock()), type(threading.RLock()))
_RELEASE: Final = frozenset({"release", "__exit__"})
_METHODS: Final = frozenset(name for one in _CALLED for name in dir(one) if not name.startswith("_"))
# Instructions that neither branch nor store where another thread looks.
_LOADS: Final = ("LOAD_", "STORE_FAST", "POP_TOP", "PUSH_NULL", "COPY", "PRECALL", "KW_NAMES", "NOP", "BUILD_TUPLE")
# Python 3.12 looks at `f_trace_opcodes` only when a trace function is set.
_ASKS_AGAIN: Final = sys.version_info[:2] == (3, 12)
_LIBRARIES: Final = frozenset({"queue", "threading", "concurrent", "asyncio", "logging"})
_HARNESS: Final = ("tornpage.faults.", "tornpage.scenarios.execution.", "tornpage.scenarios.pytest_plugin.")


def calls_of_this_thread(
    notify: Callable[[str, sqlite3.Connection | None], None],
    *,
    requests: bool,
    returned: Callable[[str], None] | None = None,
) -> AbstractContextManager[None]:
    """Inside this scope `notify` gets each such call of this thread, before it is made: its name and its connection.

    With `requests` it also gets the calls that pass on work, and the releases of locks; they have no connection.
    `returned` gets the name of each call into ``sqlite3`` that has returned to code that works on something else before
    the next one.
    """

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        # It runs at each call and return of any function, so what is no point is put aside first.
        if event == "c_call":
            one = argument.__self__
            if isinstance(one, _CALLED):
                notify(argument.__name__, one.connection if isinstance(one, sqlite3.Cursor) else one)
            elif requests and isinstance(one, SimpleQueue) and _is_request_to_a_queue(frame, argument):
                notify(argument.__name__, None)
        elif event == "c_return":
            one = argument.__self__
            if isinstance(one, _CALLED):
                if returned is not None and not goes_straight_on(frame.f_code, frame.f_lasti):
                    returned(argument.__name__)
            elif requests and isinstance(one, _LOCKS) and _is_release(frame, argument):
                notify("release", None)
        elif event == "call" and requests and frame.f_code.co_name in _ASKED and _is_request(frame):
            notify(frame.f_code.co_name, None)

    return _watched_by(profile, _left_by_exceptions(lambda: notify("release", None)) if requests else None)


def connections_called(called: list[sqlite3.Connection | None], returns: list[int]) -> AbstractContextManager[None]:
    """Inside this scope append to `called` the connection of each point of this thread; None for what has none.

    `returns` gets the numbers, from 1, of the calls whose return is reported.
    """

    def note(_name: str, connection: sqlite3.Connection | None) -> None:
        called.append(connection)

    return calls_of_this_thread(note, requests=True, returned=lambda _name: returns.append(len(called)))


@functools.lru_cache(maxsize=4096)
def goes_straight_on(code: CodeType, at: int) -> bool:
    """Whether the code after the call at this offset only loads names for the next call into ``sqlite3``."""
    method = ""
    for one in dis.get_instructions(code):
        if one.offset <= at:
            continue
        if one.opname.startswith("CALL"):
            return method in _METHODS
        if one.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            method = str(one.argval)
        elif not one.opname.startswith(_LOADS):
            return False
    return False


@contextlib.contextmanager
def _watched_by(
    profile: Callable[[FrameType, str, Any], None], trace: Callable[[FrameType, str, Any], Any] | None
) -> Iterator[None]:
    """Both functions for this thread; the second one not where a debugger or a measurement of coverage has one."""
    before, traced = sys.getprofile(), sys.gettrace()
    if traced is None:
        sys.settrace(trace)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)
        if traced is None:
            sys.settrace(None)


def _left_by_exceptions(notify: Callable[[], None]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function: `notify` is called when an exception has left a ``with`` block, which may have released a lock.

    Python calls ``__exit__`` there without a profile event. Each instruction is looked at, but only after an exception.
    """
    exits: dict[FrameType, bool] = {}

    def in_frame(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "exception":
            frame.f_trace_opcodes = True
            if _ASKS_AGAIN:
                sys.settrace(sys.gettrace())
        elif event == "return":
            if exits.pop(frame, False):
                notify()
        elif event == "opcode":
            if exits.get(frame, False):
                notify()
            exits[frame] = frame.f_lasti in _exits_by_exception(frame.f_code)
        return in_frame

    def begun(frame: FrameType, _event: str, _argument: Any) -> Any:
        if not _exits_by_exception(frame.f_code) or _is_library(frame):
            return None
        frame.f_trace_lines = False
        return in_frame

    return begun


@functools.lru_cache(maxsize=4096)
def _exits_by_exception(code: CodeType) -> frozenset[int]:
    """Where a code calls the ``__exit__`` of a ``with`` block that an exception leaves."""
    return frozenset(one.offset for one in dis.get_instructions(code) if one.opname == "WITH_EXCEPT_START")


def _is_request_to_a_queue(frame: FrameType, argument: Any) -> bool:
    return argument.__name__ in _ASKED and not _is_library(frame)


def _is_release(frame: FrameType, argument: Any) -> bool:
    return argument.__name__ in _RELEASE and not _is_library(frame)


def _is_request(frame: FrameType) -> bool:
    """Whether a function with such a name passes on work or takes something, and was called by the store."""
    is_one = frame.f_code.co_name in _PASS_ON or frame.f_globals.get("__name__") in ("threading", "queue")
    return is_one and _is_entered(frame)


def _is_entered(frame: FrameType) -> bool:
    return _is_library(frame) and not _is_library(frame.f_back)


def _is_library(frame: FrameType | None) -> bool:
    name = "" if frame is None else str(frame.f_globals.get("__name__"))
    return name.partition(".")[0] in _LIBRARIES or name.startswith(_HARNESS)
