"""Signals that arrive while C is calling us, held back until it has its answer.

A Python signal handler runs between two instructions of the main thread, and that may be the very first of a callback,
before its ``try``. What it raises there is lost: ctypes prints it and gives C whatever lay in memory as the result. (Of
8,000 interrupts in a loop of INSERTs under the shim one in eight came at such a moment, and SQLite went on with random
result codes.) What it raises deeper in a callback can be caught, but SQLite may absorb the error that is made of it,
and nobody hears of the interrupt. So while the shim is in use the handlers are wrapped: one that would run within a
callback is asked again a moment later, until it is not, or until a second has passed in a callback that does not end.

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
_PATIENCE_S: Final = 1.0


class Interrupts:
    """The code in which nothing may be raised, and the handlers that keep out of it."""

    def __init__(self) -> None:
        self._codes: set[CodeType] = set()

    def keep_out_of(self, function: Callable[..., Any]) -> None:
        """Let no handler run in this function, nor, for a while, in what it calls."""
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
    """A handler that waits until no callback is running."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any], codes: set[CodeType]) -> None:
        self.handler = handler
        self._codes = codes
        self._waiting_since: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if self._waits(frame):
            # The signal comes again by itself: there is nothing to remember, and nothing to look after.
            return _thread.start_new_thread(_raise_again, (number,))
        self._waiting_since = None
        return self.handler(number, frame)

    def _waits(self, frame: FrameType | None) -> bool:
        """Whether this is no moment to raise; directly in a callback's own frame it never is."""
        if frame is not None and frame.f_code in self._codes:
            return True
        while frame is not None and frame.f_code not in self._codes:
            frame = frame.f_back
        if frame is None:
            return False
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        return now - self._waiting_since < _PATIENCE_S


def _raise_again(number: int) -> None:
    time.sleep(_AGAIN_AFTER_S)
    signal.raise_signal(number)
