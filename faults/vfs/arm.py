"""Arming: a fault plan in force inside a scope, and the count of what it came to.

``install()`` makes the shim SQLite's default VFS; ``arm()`` inside it watches only what its plan needs. Both are
context managers, both nest, and both leave nothing behind.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from types import ModuleType
from typing import Final

from tornpage.faults.catalogue import require_possible, require_reachable
from tornpage.faults.errors import NotInstalledError
from tornpage.faults.injector import Firing, Injector, OnPath, OperationCounter, PlanInjector
from tornpage.faults.plan import VFS_KINDS, FaultPlan
from tornpage.faults.vfs import python_files as plain_files
from tornpage.faults.vfs.operation_log import Tape
from tornpage.faults.vfs.shim import Shim, shim_for

Path = str | os.PathLike[str]
_MARK: Final = "injected_by_faults"


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it, outermost first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        # `raise … from …` inside a handler has both, and either may lead to the fault.
        waiting += [current.__context__, current.__cause__]
        if isinstance(current, BaseExceptionGroup):
            waiting += reversed(current.exceptions)


def mark(error: BaseException) -> object:
    """Make an injected exception recognisable; returns the mark.

    Not the exception itself is remembered, because its traceback would keep the caller's connections alive.
    """
    made = object()
    vars(error)[_MARK] = made
    return made


class Armed:
    """What an armed plan came to: faults armed, firings, and errors that surfaced at the caller."""

    def __init__(self, plan: FaultPlan, module: ModuleType = sqlite3, *, marks: list[object] | None = None) -> None:
        self.plan = plan
        # The marks of the exceptions that were injected, where it was not SQLite itself that raised them.
        self._marks = marks
        self.injector = PlanInjector(plan)
        # A count, not the errors: an error's traceback would keep the caller's connections alive.
        self.surfaced = 0
        self._errors = (module.Error, MemoryError)
        self._fired_when_last_seen = 0

    @property
    def armed(self) -> int:
        """How many faults the plan has."""
        return len(self.plan.faults)

    @property
    def firings(self) -> list[Firing]:
        """Every fault that was carried out, in order; a sticky one is there many times."""
        return self.injector.fired

    @property
    def fired(self) -> int:
        """How many of the plan's faults were carried out at least once."""
        return len({firing.fault for firing in self.firings})

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing and fire nothing inside this scope."""
        outer, self.injector.paused = self.injector.paused, True
        try:
            yield
        finally:
            self.injector.paused = outer

    def saw(self, error: BaseException) -> bool:
        """Tell of an error that reached a caller; True if it came of a fault that fired since the last one."""
        if self._marks is not None:
            return self._saw_marked(error, self._marks)
        if len(self.firings) == self._fired_when_last_seen:
            return False
        if not any(isinstance(cause, self._errors) for cause in causes(error)):
            return False
        self._fired_when_last_seen = len(self.firings)
        self.surfaced += 1
        return True

    def _saw_marked(self, error: BaseException, marks: list[object]) -> bool:
        for cause in causes(error):
            made = vars(cause).get(_MARK)
            if made is not None and made in marks:
                marks.remove(made)
                self.surfaced += 1
                return True
        return False

    def __str__(self) -> str:
        return f"{self.plan}: {self.armed} armed, {self.fired} fired, {self.surfaced} surfaced"


@contextlib.contextmanager
def install(module: ModuleType = sqlite3, *, virtual_sleep: bool = True) -> Iterator[Shim]:
    """Make the shim the default VFS of the libsqlite3 behind `module`; raises `ShimUnavailableError`.

    Connections opened inside the scope are within reach of `arm`, now and later; others never are.
    `virtual_sleep` lets busy timeouts run out without real time passing.
    """
    shim = shim_for(module)
    with contextlib.ExitStack() as stack:
        stack.enter_context(shim.installed())
        if virtual_sleep:
            stack.enter_context(shim.virtual_sleep())
        yield shim


@contextlib.contextmanager
def arm(plan: FaultPlan | str, path: Path | None = None, *, module: ModuleType = sqlite3) -> Iterator[Armed]:
    """Put a plan in force at the vfs depth, for the files of one database or directory, or for all.

    Raises `PlanError`, `ImpossibleFaultError`, `NotInstalledError`; and at the end what a callback kept.
    """
    plan = FaultPlan.parse(plan) if isinstance(plan, str) else plan
    require_possible(plan)
    require_reachable(plan, VFS_KINDS, "vfs")
    armed = Armed(plan, module)
    with _watching(armed.injector, path, module) as shim, shim.telling():
        try:
            yield armed
        except Exception as error:
            armed.saw(error)
            raise


@contextlib.contextmanager
def count_operations(path: Path | None = None, *, module: ModuleType = sqlite3) -> Iterator[OperationCounter]:
    """Count operations by (kind, role) and fault none."""
    counter = OperationCounter()
    with _watching(counter, path, module) as shim, shim.telling():
        yield counter


@contextlib.contextmanager
def spare(*, module: ModuleType = sqlite3) -> Iterator[None]:
    """Nothing that is armed at the vfs depth fires inside this scope, or counts; what is recorded goes on."""
    with shim_for(module).sparing():
        yield


@contextlib.contextmanager
def record(directory: Path, *, module: ModuleType = sqlite3) -> Iterator[Tape]:
    """Write down every change to the files below a directory, SQLite's and Python's own.

    Open them inside this scope, not before. Raises `ShimUnavailableError`, `NotInstalledError`.
    """
    shim = shim_for(module)
    if not shim.is_installed:
        raise NotInstalledError("record inside `with faults.install():`, or no file is watched")
    tape = Tape(directory)
    with shim.recording(tape), plain_files.recording(tape), shim.telling():
        yield tape


@contextlib.contextmanager
def _watching(injector: Injector, path: Path | None, module: ModuleType) -> Iterator[Shim]:
    shim = shim_for(module)
    if not shim.is_installed:
        raise NotInstalledError("arm a plan inside `with faults.install():`, or no file is watched")
    with shim.watching(injector if path is None else OnPath(injector, path)):
        yield shim


def connect_unwatched(path: Path, *, module: ModuleType = sqlite3, read_only: bool = False) -> sqlite3.Connection:
    """Open a database past the shim, on SQLite's own VFS: whatever is armed, this reader sees the truth.

    The file has to be there: a reader that made one would change what it reads. It waits for no lock, since whoever
    holds one now doesn't let go of it while we wait. With `read_only` it recovers a WAL, but never writes it back to
    the database, and it can't roll a hot journal back.
    """
    name = os.fspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    mode = "ro" if read_only else "rw"
    connection: sqlite3.Connection = module.connect(
        f"file:{name}?mode={mode}&vfs={shim_for(module).base_name}", uri=True, isolation_level=None, timeout=0
    )
    return connection
