"""Signals that arrive while C is calling us, kept out of where what they raise would be lost.

A Python signal handler runs between two instructions of the main thread, and that may be the very first of a callback,
before its ``try``. What it raises there is lost: ctypes prints it and gives C whatever lay in memory as the result. (Of
8,000 interrupts in a loop of INSERTs under the shim one in eight came at such a moment, and SQLite went on with random
result codes.) So while the shim is in use the handlers are wrapped: one that would run directly in a callback's own
frame is asked again a moment later. Deeper in a callback it may raise: that is caught, kept and told (`Shim.kept`).

Not covered: a handler that is set inside a scope and after the last plan was armed; exceptions that another thread sets
(``PyThreadState_SetAsyncExc``); a RecursionError exactly at the callback's entry; an interrupt inside `install` itself.
"""

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, Final

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP") if hasattr(signal, name)
)
_AGAIN_AFTER_S: Final = 0.0005


class Interrupts:
    """The code in which nothing may be raised, and the handlers that keep out of it."""

    def __init__(self) -> None:
        self._codes: set[CodeType] = set()

    def keep_out_of(self, function: Callable[..., Any]) -> None:
        """Let no handler run directly in this function's frame; in what it calls it may."""
        self._codes.add(function.__code__)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wrap the handlers inside this scope; scopes nest. Only the main thread ever runs handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wrapped = {}
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, _Held):
                wrapped[number] = _Held(handler, self._codes)
        try:
            for number, held in wrapped.items():
                signal.signal(number, held)
            yield
        finally:
            for number, held in wrapped.items():
                # Somebody may have set another handler meanwhile, which then stays.
                if signal.getsignal(number) is held:
                    signal.signal(number, held.handler)


class _Held:
    """A handler that is never run directly in one of these frames."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any], codes: set[CodeType]) -> None:
        self.handler = handler
        self._codes = codes

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if frame is None or frame.f_code not in self._codes:
            return self.handler(number, frame)
        # The signal comes again by itself: there is nothing to remember, and nothing to look after.
        return _thread.start_new_thread(_raise_again, (number,))


def _raise_again(number: int) -> None:
    time.sleep(_AGAIN_AFTER_S)
    signal.raise_signal(number)
