"""Signals that arrive while C calls us: handlers don't run where the exception that they raise would be lost.

A Python signal handler runs between two instructions of the main thread. That may be the first instruction of a
callback, before its ``try``. An exception that is raised there is lost: ctypes prints it and returns uninitialised
memory to C as the result. (Of 8,000 interrupts in a loop of INSERTs under the shim, one in eight came at such a moment,
and SQLite went on with random result codes.) So while the shim is in use the handlers are wrapped: a handler that would
run directly in a callback's own frame is postponed by a moment. Deeper in a callback it may raise: that exception is
caught, kept and raised in the harness (`Shim.kept`).

Not covered: a handler that is set inside a scope and after the last plan was armed; exceptions that another thread sets
(``PyThreadState_SetAsyncExc``); a RecursionError exactly at the callback's entry; an interrupt inside `install` itself;
an exception that is set already when SQLite calls us while a trace function written in Python is in force (from Python
3.12 on the trace function is called first).
"""

import _thread
import contextlib
import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, Final

from tornpage.faults.locks import GUARDED

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP") if hasattr(signal, name)
)
_AGAIN_AFTER_S: Final = 0.0005


class Interrupts:
    """The functions in whose frames no handler may raise, and the wrapped handlers."""

    def __init__(self) -> None:
        self._codes: set[CodeType] = set()

    def keep_out_of(self, function: Callable[..., Any]) -> None:
        """Let no handler run directly in this function's frame; in the functions that it calls a handler may run."""
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
                # A handler that was set meanwhile stays.
                if signal.getsignal(number) is held:
                    signal.signal(number, held.handler)


class _Held:
    """A handler that never runs directly in one of these frames, nor while one of our locks is being taken."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any], codes: set[CodeType]) -> None:
        self.handler = handler
        self._codes = codes

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if frame is None or (frame.f_code not in self._codes and frame.f_code not in GUARDED):
            return self.handler(number, frame)
        # The thread raises the signal again: no state is needed here.
        return _thread.start_new_thread(_raise_again, (number,))


def _raise_again(number: int) -> None:
    time.sleep(_AGAIN_AFTER_S)
    signal.raise_signal(number)


# -- exceptions that are set when C calls us -------------------------------------------------------------------

# Raises a SystemError if an exception is set, as every C function does that the interpreter doesn't inline; this one is
# among the cheapest, and has no effect.
raise_pending: Final = _thread.get_ident


class _TypeSlot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("function", ctypes.c_void_p))


class _TypeSpec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int), ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_TypeSlot)),
    )  # fmt: skip


# Py_tp_finalize and Py_TPFLAGS_*: part of the stable ABI, so the values can't change.
_TP_FINALIZE: Final = 80
_TPFLAGS_DEFAULT_AND_BASETYPE: Final = 1 << 18 | 1 << 10
_type_from_spec = ctypes.pythonapi.PyType_FromSpec
_type_from_spec.restype = ctypes.py_object
_type_from_spec.argtypes = (ctypes.POINTER(_TypeSpec),)


def _called_at_its_end() -> Any:
    """A class whose objects are called when they are destroyed; an exception that the call raises stays set.

    After ``__del__`` Python restores the exception state from before it; it does not after a C-level finalizer.
    """
    slots = (_TypeSlot * 2)()
    slots[0] = _TypeSlot(_TP_FINALIZE, ctypes.cast(ctypes.pythonapi.PyObject_CallNoArgs, ctypes.c_void_p).value)
    name = b"tornpage.faults.vfs.signals.CalledAtItsEnd"
    spec = _TypeSpec(name, object.__basicsize__, 0, _TPFLAGS_DEFAULT_AND_BASETYPE, slots)
    made = _type_from_spec(ctypes.byref(spec))
    _KEPT.append((slots, name))  # Before Python 3.12 a type points to this memory for its name.
    return made


_KEPT: Final[list[Any]] = []
_CalledAtItsEnd: Any = _called_at_its_end()


class _Raising(_CalledAtItsEnd):  # type: ignore[misc] # made at run time
    """Sets an exception when it is destroyed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self) -> None:
        __tracebackhide__ = True
        error = self.error
        try:
            raise error
        finally:
            del self.error, self, error  # The exception's traceback leads to this frame.


class _Setting(int):
    """A callback's result that sets an exception after C has received the value.

    ctypes clears an exception that a callback raises, so a callback can't set one. It drops the result object after
    that, and the object that is destroyed with it sets the exception.
    """

    def __init__(self, _result: int) -> None:
        self.raising: _Raising | None = None


def was_pending(error: BaseException) -> bool:
    """Whether an exception was set before C called us: `raise_pending` raised it, before any work was done.

    This happens when ``sqlite3`` closes a connection with ``autocommit=False`` after a failed ROLLBACK, and when
    ``pysqlite3`` closes an unreferenced connection after a call on it has failed.
    """
    return isinstance(error, ctypes.ArgumentError) or (
        isinstance(error, SystemError) and "with an exception set" in str(error)
    )


def with_pending(error: BaseException, result: int) -> int:
    """The result of the second run of a callback, with the pending exception (the cause of `error`) set again."""
    setting = _Setting(result)
    setting.raising = _Raising(error.__cause__ or error)
    return setting
