"""Arming: a fault plan in force inside a scope, with counts of the faults armed, fired and surfaced.

``install()`` puts the shim beneath every SQLite of the process; ``arm()`` inside it watches only the operations that
its plan names. Both are context managers, both nest, and both restore everything at the end. A plan applies to all
libraries, unless it is armed for one.
"""

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any, overload

from tornpage.faults import files
from tornpage.faults.catalogue import require_possible, require_reachable
from tornpage.faults.contention.other_threads import may_give_up_the_lock
from tornpage.faults.errors import NotInstalledError
from tornpage.faults.files.watch import MARK as _MARK
from tornpage.faults.injector import Firing, Injector, OnPath, OperationCounter, PlanInjector, UnreadablePart
from tornpage.faults.plan import FILE_KINDS, VFS_KINDS, FaultPlan
from tornpage.faults.reach.bindings import sqlite_errors
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.operation_log import Tape
from tornpage.faults.vfs.shim import Shim, shim_for
from tornpage.faults.vfs.shims import Shims, shims

Path = str | os.PathLike[str]


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
    """Mark an exception as injected; return the mark.

    The exception itself is not remembered, because its traceback would keep the caller's connections alive.
    """
    made = object()
    vars(error)[_MARK] = made
    return made


class Armed:
    """The counts of an armed plan: faults armed, firings, and errors that surfaced at the caller."""

    # A firing is counted at once.
    is_known_late = False

    def __init__(self, plan: FaultPlan, module: ModuleType | None = None, *, marks: list[object] | None = None) -> None:
        self.plan = plan
        # The marks of the injected exceptions, if SQLite itself did not raise them.
        self._marks = marks
        self.injector = PlanInjector(plan)
        # A count, not the errors: an error's traceback would keep the caller's connections alive.
        self.surfaced = 0
        self._module = module
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
        """Report an error that reached a caller; True if a fault that fired since the last report caused it."""
        if self._marks is not None:
            return self._saw_marked(error, self._marks)
        if len(self.firings) == self._fired_when_last_seen:
            return False
        errors = (*((self._module.Error,) if self._module is not None else sqlite_errors()), MemoryError)
        if not any(isinstance(cause, errors) or files.is_made(cause) for cause in causes(error)):
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


@overload
def install(module: None = None, *, virtual_sleep: bool = True) -> contextlib.AbstractContextManager[Shims]: ...
@overload
def install(module: ModuleType, *, virtual_sleep: bool = True) -> contextlib.AbstractContextManager[Shim]: ...
def install(
    module: ModuleType | None = None, *, virtual_sleep: bool = True
) -> contextlib.AbstractContextManager[Shims | Shim]:
    """Put the shim beneath every SQLite that this process has loaded or will load, or beneath that of one binding only.

    `arm` reaches connections that are opened inside the scope, now and later; it never reaches others.
    `virtual_sleep` lets busy timeouts expire without real time passing, unless another thread works. Raises
    `ShimUnavailableError` if the binding (without one: Python's own ``sqlite3``) can't be reached.
    """
    return _installed(_shim_of(module), virtual_sleep=virtual_sleep)


@contextlib.contextmanager
def _installed(shim: Shims | Shim, *, virtual_sleep: bool) -> Iterator[Shims | Shim]:
    asleep = shim.virtual_sleep(unless=may_give_up_the_lock) if virtual_sleep else contextlib.nullcontext()
    with files.reached(), shim.installed(), asleep:
        yield shim


def _shim_of(module: ModuleType | None) -> Shims | Shim:
    return shims() if module is None else shim_for(module)


@contextlib.contextmanager
def arm(plan: FaultPlan | str, path: Path | None = None, *, module: ModuleType | None = None) -> Iterator[Armed]:
    """Put a plan in force at the vfs depth, for the files of one database or directory, or for all.

    The plan applies to every library with a shim, or to that of one binding. Raises `PlanError`,
    `ImpossibleFaultError`, `NotInstalledError`; and at the end any exception that a callback kept.
    """
    plan = FaultPlan.parse(plan) if isinstance(plan, str) else plan
    require_possible(plan)
    require_reachable(plan, (*VFS_KINDS, *FILE_KINDS), "vfs")
    armed = Armed(plan, module)
    with _watching(armed.injector, path, module) as shim, shim.telling():
        try:
            yield armed
        except Exception as error:
            armed.saw(error)
            raise


@contextlib.contextmanager
def unreadable(path: Path, start: int, stop: int) -> Iterator[UnreadablePart]:
    """Fail every read of one of SQLite's files that touches its bytes `start` up to `stop`: a bad page."""
    part = UnreadablePart(path, start, stop)
    with shims().watching(part), shims().telling():
        yield part


@contextlib.contextmanager
def count_operations(path: Path | None = None, *, module: ModuleType | None = None) -> Iterator[OperationCounter]:
    """Count operations by (kind, role) and fault none."""
    counter = OperationCounter()
    with _watching(counter, path, module) as shim, shim.telling():
        yield counter


@contextlib.contextmanager
def spare(*, module: ModuleType | None = None) -> Iterator[None]:
    """Suspend every plan that is armed at the vfs depth inside this scope: no fault fires or counts.

    Recordings go on.
    """
    with _shim_of(module).sparing(), files.spared():
        yield


@contextlib.contextmanager
def unseen(*, module: ModuleType | None = None) -> Iterator[None]:
    """Suspend faults, counts and recordings inside this scope: other files have replaced the watched ones."""
    with _shim_of(module).sparing(tapes=True), files.spared():
        yield


@contextlib.contextmanager
def record(directory: Path, *, module: ModuleType | None = None) -> Iterator[Tape]:
    """Record every change to the files below a directory, SQLite's (of every library) and Python's own.

    Open them inside this scope, not before. Raises `ShimUnavailableError`, `NotInstalledError`.
    """
    shim = _shim_of(module)
    if not shim.is_installed:
        raise NotInstalledError("record inside `with faults.install():`, or no file is watched")
    tape = Tape(directory)
    with shim.recording(tape), files.recording(tape), shim.telling():
        yield tape


@contextlib.contextmanager
def _watching(injector: Injector, path: Path | None, module: ModuleType | None) -> Iterator[Shims | Shim]:
    shim = _shim_of(module)
    if not shim.is_installed:
        raise NotInstalledError("arm a plan inside `with faults.install():`, or no file is watched")
    on_path = injector if path is None else OnPath(injector, path)
    with shim.watching(on_path), files.watching(on_path):
        yield shim


def is_open(path: str | os.PathLike[str]) -> bool:
    """Whether SQLite, of any library, has this file open in this process, on a connection that a shim knows."""
    return shims().holder_of(path) is not None


def has_log_open(path: str | os.PathLike[str]) -> bool:
    """Whether a connection of this process has a database's write-ahead log open; one that has not read has not."""
    return shims().has_file_open(f"{os.fspath(path)}-wal")


def connect_unwatched(
    path: str | os.PathLike[str], *, module: ModuleType = sqlite3, read_only: bool = False
) -> sqlite3.Connection:
    """Open a database past the shims, on SQLite's own VFS: no armed fault affects this reader.

    It is a connection of `module`, whichever library has the database open: that library's VFS then serves it, because
    only so it shares the library's locks and shared memory. The file must exist: a reader that created it would change
    what it reads. The busy timeout is 0: a holder in this process can't release its lock while we wait. With
    `read_only` the connection recovers a WAL but never checkpoints it, and it can't roll back a hot journal.
    """
    return _connect(path, module, "ro" if read_only else "rw", watched=False)


def connect_beside(path: str | os.PathLike[str], *, module: ModuleType = sqlite3) -> sqlite3.Connection:
    """A second connection to a database in this process: as `connect_unwatched`, but armed faults apply to it, too."""
    return _connect(path, module, "rw", watched=True, check_same_thread=False)


def _connect(
    path: str | os.PathLike[str], module: ModuleType, mode: str, *, watched: bool, **options: Any
) -> sqlite3.Connection:
    path = os.fspath(path)
    name = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    holder = shims().holder_of(path)
    with shim_for(module).vfs_for(path, holder, watched=watched) as vfs:
        connection: sqlite3.Connection = module.connect(
            f"file:{name}?mode={mode}&vfs={vfs}", uri=True, isolation_level=None, timeout=0, **options
        )
    return connection
