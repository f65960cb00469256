"""The injectors and tapes of plain files, and the one shape of every operation: describe, ask, then do or refuse.

There is one `Watch` for the process, since there is one set of Python's functions. It holds the injectors to ask and
the tapes to record on. The harness's own reads and writes run inside `spared`: no injector is asked about them.
"""

import contextlib
import dataclasses
import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeVar

from tornpage.faults.files.names import role_of
from tornpage.faults.injector import Injector
from tornpage.faults.plan import KILL, SHORT, Fault
from tornpage.faults.vfs.operation_log import Operation, Tape

_Any = TypeVar("_Any")
MARK: Final = "injected_by_faults"
# After a failed write, a buffered file writes the same data again when flushed and when it is closed. That happens
# at once, when a full disk is still full. The limit lets a caller that waits and retries succeed.
_WRITES_THAT_FAIL: Final = 3


class Reader(Protocol):
    """Notes what Python code reads of files."""

    def read(self, path: str, offset: int, size: int | None) -> None:
        """Called before each read with the number of bytes asked for; None is all from `offset` to the end."""


class Watch:
    """The injectors and the tapes of this process's plain files."""

    def __init__(self) -> None:
        self.injectors: tuple[Injector, ...] = ()
        self.tapes: tuple[Tape, ...] = ()
        self.readers: tuple[Reader, ...] = ()
        # In how many scopes no injector is asked.
        self.spares = 0
        # By path: the fault that its next writes get, and for how many writes.
        self._owed: dict[str, tuple[Fault, int]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether there is no injector and no tape."""
        return not self.injectors and not self.tapes

    @contextlib.contextmanager
    def spared(self) -> Iterator[None]:
        """Ask no injector inside this scope."""
        self.spares += 1
        try:
            yield
        finally:
            self.spares -= 1

    def forget(self) -> None:
        """Drop the faults that repeat on retried writes: their injector has been removed."""
        self._owed.clear()

    # -- faults --------------------------------------------------------------------------------------------

    def ask(self, kind: str, path: str | None, role: str = "") -> Fault | None:
        """The fault to inject into an operation; None lets it pass."""
        if path is None or self.spares or not self.injectors:
            return None
        owed = self._still_owed(kind, path)
        for injector in self.injectors:
            if kind in injector.kinds:
                fault = injector.decide(kind, role or role_of(path), path)
                if fault is not None and owed is None:
                    return fault
        return owed

    def perform(self, kind: str, path: str | None, do: Callable[[], _Any], *names: Any, role: str = "") -> _Any:
        """Ask the injectors; then do the operation, or refuse it, or do it and then report failure."""
        fault = self.ask(kind, path, role)
        if fault is None:
            return do()
        if fault.timing == "before":
            raise refused(fault, *names)
        try:
            do()
        except OSError:
            if fault.effect == KILL:
                raise refused(fault, *names) from None
            raise
        raise refused(fault, *names)

    def perform_write(
        self, path: str | None, size: int, do: Callable[[int | None], int], kind: str = "file-write"
    ) -> int:
        """Ask the injectors; then write all (`do(None)`), or part of the `size` bytes (`do(n)`), or nothing."""
        fault = self.ask(kind, path)
        if fault is None:
            return do(None)
        if fault.timing == "after":
            do(None)
            raise refused(fault)
        if fault.effect == SHORT:
            return do((size + 1) // 2)
        written = do(size // 2) if size > 1 and fault.timing == "half" else 0
        if fault.effect == KILL:
            raise refused(fault)
        if path is not None and path not in self._owed:
            self._owed[path] = dataclasses.replace(fault, timing="before"), _WRITES_THAT_FAIL
        if not written:
            raise refused(fault)
        return written

    def _still_owed(self, kind: str, path: str) -> Fault | None:
        """The fault of an earlier write that this write repeats; any other operation on the file ends that."""
        if kind != "file-write" or path not in self._owed:
            self._owed.pop(path, None)
            return None
        fault, more = self._owed[path]
        # Keep the entry at 0: without it the last failure would start a new repetition.
        self._owed[path] = fault, more - 1
        return fault if more > 0 else None

    # -- tapes ---------------------------------------------------------------------------------------------

    def record(self, path: str | None, describe: Callable[[str], list[Operation]]) -> None:
        """Record an operation on each tape whose directory contains the file; `describe` gets the relative name."""
        if path is None:
            return
        for tape in self.tapes:
            name = tape.name_of(path)
            if name is not None:
                tape.add(*describe(name))

    def note(self, way: str, *, syncs: bool = False) -> None:
        """Note on each tape an event that may change, or sync, any file unrecorded."""
        for tape in self.tapes:
            tape.note(way, syncs=syncs)

    def note_read(self, path: str | None, offset: int = 0, size: int | None = None) -> None:
        """Call each reader for a read; without a size all from `offset` on counts, the file's length with it."""
        for reader in self.readers:
            if path is not None:
                reader.read(path, offset, size)

    def note_of(self, path: str | None, way: str) -> None:
        """Note an event that may change this file unrecorded, on each tape whose directory contains it."""
        for tape in self.tapes:
            if path is not None and (name := tape.name_of(path)) is not None:
                tape.note(f"{name} {way}")


def refused(fault: Fault, *names: Any) -> OSError:
    """The OSError for a fault, with the file names that the call was given; a KILL fault ends the process here."""
    if fault.effect == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    number = getattr(errno, fault.effect)
    # The third of five arguments is Windows's own number.
    given = (names[0], None, names[1]) if len(names) == 2 else names
    error = OSError(number, os.strerror(number), *given)
    vars(error)[MARK] = fault
    return error


def is_made(error: BaseException) -> bool:
    """Whether an error was injected into one of Python's file functions."""
    return isinstance(error, OSError) and MARK in vars(error)


WATCH: Final = Watch()
