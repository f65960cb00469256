"""Scopes in which plain files are watched: replace Python's file functions while an injector or a tape needs them.

Inside `reached` the replacements stay once they are made: a search begins and ends thousands of shorter scopes.
"""

import contextlib
import ctypes
import functools
import io
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from tornpage.faults.files import functions, raw_file, reads, unseen
from tornpage.faults.files.in_place import BuiltinFunction, BuiltinMethods, is_supported
from tornpage.faults.files.watch import WATCH, Reader
from tornpage.faults.injector import Injector
from tornpage.faults.plan import FILE_KINDS
from tornpage.faults.vfs.operation_log import Tape

try:
    import _posixsubprocess
except ImportError:  # pragma: no cover - a system without fork
    _posixsubprocess = None  # type: ignore[assignment]

Function = Callable[..., Any]
_FILE_KINDS: Final = frozenset(FILE_KINDS)


class _Replaceable(Protocol):
    def put_in(self) -> None: ...
    def take_out(self) -> None: ...


class _Place:
    """Some of Python's file functions: replaced, or not."""

    def __init__(self, make: Callable[[], list[_Replaceable]], at_end: Callable[[], None] | None = None) -> None:
        self._make, self._at_end = make, at_end
        self._lock = threading.RLock()
        self._users = self._keepers = 0
        self._is_in = False

    @functools.cached_property
    def _all(self) -> list[_Replaceable]:
        """The replacements; made at first use, and kept for the life of the process."""
        return self._make()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        with self._lock:
            self._keepers += 1
        try:
            yield
        finally:
            with self._lock:
                self._keepers -= 1
                self._settle()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            self._settle()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._settle()
                if not self._users and self._at_end is not None:
                    self._at_end()

    def _settle(self) -> None:
        wanted = bool(self._users or (self._keepers and self._is_in))
        if wanted == self._is_in or not is_supported():
            return
        for one in self._all:
            (one.put_in if wanted else one.take_out)()
        self._is_in = wanted


def _unless_idle(body: Function) -> Function:
    """Call the body if there is a tape or an active injector; else the original."""

    @functools.wraps(body)
    def function(original: Function, /, *args: Any, **kwargs: Any) -> Any:
        # This runs at each use of any file: a method of the watch would take longer.
        if WATCH.tapes or (WATCH.injectors and not WATCH.spares):
            return body(original, *args, **kwargs)
        return original(*args, **kwargs)

    return function


def _changing() -> list[_Replaceable]:
    """The functions that open, change, sync or map a file, or start a process that could."""
    bodies = {**functions.BODIES, **unseen.BODIES}
    made: list[_Replaceable] = [
        BuiltinFunction(getattr(os, name), _unless_idle(body)) for name, body in bodies.items() if hasattr(os, name)
    ]
    if _posixsubprocess is not None:
        made.append(BuiltinFunction(_posixsubprocess.fork_exec, _unless_idle(unseen.FORK_EXEC)))
    methods = {name: _unless_idle(body) for name, body in raw_file.BODIES.items()}
    return [
        *made,
        BuiltinMethods(io.FileIO, {**methods, "__init__": raw_file.INIT}),
        BuiltinMethods(mmap.mmap, {"__init__": unseen.MAP}),
        BuiltinMethods(ctypes.CDLL, {"__getitem__": unseen.LOOK_UP}),
    ]


def _reading() -> list[_Replaceable]:
    functions_ = [BuiltinFunction(getattr(os, name), body) for name, body in reads.BODIES.items() if hasattr(os, name)]
    return [*functions_, BuiltinMethods(io.FileIO, reads.METHODS)]


_PLACE: Final = _Place(_changing, functions.forget)
_READS: Final = _Place(_reading)


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Keep the replacements in place until the end of this scope, once an inner scope has made them.

    Not those that note reads: the harness itself reads much, and notes are taken at few openings.
    """
    with _PLACE.kept():
        yield


@contextlib.contextmanager
def watching(injector: Injector) -> Iterator[None]:
    """Ask `injector` about operations on plain files inside this scope, if its kinds include any."""
    if _FILE_KINDS.isdisjoint(injector.kinds):
        yield
        return
    with _PLACE.used():
        WATCH.injectors = (*WATCH.injectors, injector)
        try:
            yield
        finally:
            WATCH.injectors = tuple(one for one in WATCH.injectors if one is not injector)
            WATCH.forget()


@contextlib.contextmanager
def noting_reads(reader: Reader) -> Iterator[None]:
    """Call `reader` for what Python code reads of files inside this scope."""
    with _PLACE.used(), _READS.used():
        WATCH.readers = (*WATCH.readers, reader)
        try:
            yield
        finally:
            WATCH.readers = tuple(one for one in WATCH.readers if one is not reader)


@contextlib.contextmanager
def recording(tape: Tape) -> Iterator[None]:
    """Record changes to plain files on `tape` inside this scope."""
    if not is_supported():
        tape.note("Python's own file functions can't be watched in this interpreter")
    with _PLACE.used():
        WATCH.tapes = (*WATCH.tapes, tape)
        try:
            yield
        finally:
            WATCH.tapes = tuple(one for one in WATCH.tapes if one is not tape)


def spared() -> contextlib.AbstractContextManager[None]:
    """Ask no injector about plain files inside this scope; tapes still record."""
    return WATCH.spared()
