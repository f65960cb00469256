"""Out of memory: the Nth allocation of SQLite fails, or SQLite's heap as a whole may not exceed a limit.

Exact: inside `exact_allocations` SQLite allocates through two callbacks in front of its own functions. They count and,
while a `FailedAllocation` is in force, return NULL at the Nth request: once, or from there on. Memory is freed through
SQLite's own function, without a callback: Python frees memory while an exception is pending, and a callback can't run
then. SQLite accepts another allocator only while it is shut down, and a shutdown beneath an open connection is
undefined. So a scope can begin only while no connection is open (else `AllocatorUnavailableError`); if one is open at
its end, callbacks that only delegate stay in place. Inside, memory statistics are off: SQLite would hold a lock
during each callback, and a second thread that waits for that lock would wait for ever.

Coarse: `HeapLimit` is ``sqlite3_hard_heap_limit64``, which every library has. It needs the statistics, so don't use it
inside an exact scope. The limit is for the whole process: put it in force only around the code under test.

Measured (SQLite 3.40): a callback costs 0.4 µs; opening and filling a small database takes about 500 allocations.

Not covered: allocations from SQLite's lookaside slots and the first pages of its page cache never reach the allocator,
so they can't fail, as in a real process. Python's own allocations don't fail.
"""

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from tornpage.faults import garbage
from tornpage.faults.errors import AllocatorUnavailableError
from tornpage.faults.garbage import collect, is_followed, leave_alone, leaves_alone, living
from tornpage.faults.limits.limit import Limit
from tornpage.faults.reach.library import OK, Library, reach
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.shim import shim_for
from tornpage.faults.vfs.signals import raise_pending, with_pending

_CONFIG_MALLOC: Final = 4
_CONFIG_GETMALLOC: Final = 5
_CONFIG_MEMSTATUS: Final = 9
_pointer = ctypes.c_void_p


class _Methods(ctypes.Structure):
    """``sqlite3_mem_methods``."""

    _fields_ = tuple(
        (name, _pointer)
        for name in ("xMalloc", "xFree", "xRealloc", "xSize", "xRoundup", "xInit", "xShutdown", "pAppData")
    )


_MALLOC: Final = ctypes.CFUNCTYPE(_pointer, ctypes.c_int)
_REALLOC: Final = ctypes.CFUNCTYPE(_pointer, _pointer, ctypes.c_int)


def _may_hold_memory(kind: type) -> bool:
    # A cursor with rows left has a statement, and a statement keeps a closed connection alive inside SQLite.
    return issubclass(kind, sqlite3.Connection) or (
        kind.__module__ == "sqlite3" and kind.__name__ in {"Statement", "Blob"}
    )


def _is_closed(one: object) -> bool:
    try:
        sqlite3.Connection.total_changes.__get__(one)
    except sqlite3.ProgrammingError:
        return True
    except TypeError:  # It is no connection.
        return False
    return False


def _unless_in_use() -> list[Any] | None:
    """The objects that are followed; None if a Python object holds memory of SQLite.

    That is an open connection, a statement or a blob. SQLite's own statistics can't show it: they are off inside the
    scopes, so memory that is allocated outside and freed inside stays counted.
    """
    found: list[Any] = []
    for ends in (False, True):
        if ends:
            # Nothing of it ends while it is held here.
            found.clear()
            collect()
        found = living(lambda kind: _may_hold_memory(kind) or is_followed(kind))
        if all(_is_closed(one) for one in found if _may_hold_memory(type(one))):
            return [one for one in found if is_followed(type(one))]
    return None


def _is_in_use() -> bool:
    return _unless_in_use() is None


def freeze() -> None:
    """Let the garbage collector leave alone all objects that exist now, unless one of them holds memory of SQLite.

    What is frozen is in none of its lists, by which open connections are found.
    """
    collect()
    if (followed := _unless_in_use()) is not None:
        leave_alone(followed)


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """As `freeze`, inside this scope only, and not where the program has frozen something itself."""
    if leaves_alone() or (followed := _unless_in_use()) is None:
        yield
        return
    garbage.freeze(followed)
    try:
        yield
    finally:
        garbage.unfreeze()


class Allocator:
    """SQLite's own allocator behind a counter; get it from `exact_allocations`, do not construct it.

    `requests` counts since the process began.
    """

    def __init__(self, library: Library) -> None:
        self.requests = 0
        self.failing: FailedAllocation | None = None
        self.scopes = 0
        self.installed = False
        self._library = library
        self._shutdown = library.function("sqlite3_shutdown", ctypes.c_int)
        self._initialize = library.function("sqlite3_initialize", ctypes.c_int)
        self._find_vfs = library.function("sqlite3_vfs_find", _pointer, ctypes.c_char_p)
        self._register_vfs = library.function("sqlite3_vfs_register", ctypes.c_int, _pointer, ctypes.c_int)
        # The rest of its arguments is variadic.
        self._configure = library.function("sqlite3_config", ctypes.c_int, ctypes.c_int)
        self._base = _Methods()
        self._ours = _Methods()
        self._callbacks: list[Any] = []  # never emptied: SQLite may still use them
        self.functions: tuple[Any, ...] = ()

    def enter(self) -> None:
        """Install the callbacks; raises `AllocatorUnavailableError` while a connection, statement or blob is open."""
        if not self.installed:
            if _is_in_use():
                raise AllocatorUnavailableError(
                    "a connection is open in this process, or a cursor is in the middle of its rows, and the allocator "
                    "can be exchanged only beneath none. Close it, or use the heap limit"
                )
            self._exchange(ours=True)
        self.scopes += 1

    def leave(self) -> None:
        """Remove the callbacks; if a connection is still open they stay, and only delegate."""
        self.scopes -= 1
        if self.scopes or not self.installed:
            return
        if not _is_in_use():
            self._exchange(ours=False)

    def _exchange(self, *, ours: bool) -> None:
        default = self._find_vfs(None)
        if self._shutdown() != OK:
            raise AllocatorUnavailableError("SQLite does not let itself be shut down")
        if not self._callbacks and self._configure(_CONFIG_GETMALLOC, ctypes.byref(self._base)) == OK:
            self._make_callbacks()
        methods = self._ours if ours else self._base
        refused = (
            not self._callbacks
            or self._configure(_CONFIG_MALLOC, ctypes.byref(methods))
            or self._configure(_CONFIG_MEMSTATUS, ctypes.c_int(not ours))
        )
        self._initialize()
        # After the restart SQLite has its own default VFS.
        self._register_vfs(default, 1)
        if refused:
            raise AllocatorUnavailableError("SQLite does not let its allocator be exchanged")
        self.installed = ours

    def _make_callbacks(self) -> None:
        base_malloc, base_realloc = _MALLOC(self._base.xMalloc), _REALLOC(self._base.xRealloc)

        def must_fail() -> bool:
            try:
                self.requests += 1
                return self.failing is not None and self.failing.is_due()
            except BaseException:  # noqa: BLE001 - nothing may reach C; report a failed allocation instead
                return True

        # These create no container objects, so that no garbage collection starts during an allocation.
        def malloc(size: int) -> int | None:
            try:
                raise_pending()
            except BaseException as error:  # noqa: BLE001 - it is set again
                return with_pending(error, 0 if must_fail() else base_malloc(size) or 0)
            if must_fail():
                return None
            address: int | None = base_malloc(size)
            return address

        def realloc(block: int, size: int) -> int | None:
            try:
                raise_pending()
            except BaseException as error:  # noqa: BLE001 - as above
                return with_pending(error, 0 if must_fail() else base_realloc(block, size) or 0)
            address: int | None = None if must_fail() else base_realloc(block, size)
            return address

        self.functions = (must_fail, malloc, realloc)
        self._callbacks = [_MALLOC(malloc), _REALLOC(realloc), base_malloc, base_realloc]
        self._ours = _Methods.from_buffer_copy(self._base)
        for field, callback in zip(("xMalloc", "xRealloc"), self._callbacks, strict=False):
            setattr(self._ours, field, ctypes.cast(callback, _pointer).value)


_allocators: dict[str, Allocator] = {}


def _allocator_of(module: ModuleType) -> Allocator:
    if module.__name__ not in _allocators:
        _allocators[module.__name__] = Allocator(reach(module))
    return _allocators[module.__name__]


@contextlib.contextmanager
def exact_allocations(module: ModuleType = sqlite3) -> Iterator[Allocator]:
    """Count the allocations of the libsqlite3 behind `module`, and allow `FailedAllocation` to fail them; scopes nest.

    Enter and leave it while no connection is open. Raises `ShimUnavailableError`, `AllocatorUnavailableError`.
    """
    allocator = _allocator_of(module)
    allocator.enter()
    try:
        with shim_for(module).signals_kept_out_of(*allocator.functions, FailedAllocation.is_due):
            yield allocator
    finally:
        allocator.leave()


class FailedAllocation(Limit):
    """Fails the `at`-th allocation in force, or (`sticky`) every one from there on; `at` None: only count."""

    def __init__(self, at: int | None, *, sticky: bool = False, module: ModuleType = sqlite3) -> None:
        super().__init__(module)
        self.at = at
        self.sticky = sticky
        self._allocator = _allocator_of(module)

    def is_due(self) -> bool:
        """Count one allocation; True to fail it. Called from C: it must not raise."""
        self.reached += 1
        if self.at is None or self.reached < self.at or (self.reached > self.at and not self.sticky):
            return False
        self.fired += 1
        return True

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Count and fail inside this scope; raises `AllocatorUnavailableError` outside `exact_allocations`."""
        if not self._allocator.installed:
            raise AllocatorUnavailableError("fail an allocation inside `with faults.exact_allocations():`")
        outer, collecting = self._allocator.failing, gc.isenabled()
        # A garbage collection during an allocation could close a connection there.
        gc.disable()
        self._allocator.failing = self
        try:
            yield
        finally:
            self._allocator.failing = outer
            if collecting:
                gc.enable()


def can_fail_allocations(library: Library) -> bool:
    """Whether single allocations of a library can be made to fail."""
    return library.fails_allocations


def can_limit_heap(library: Library) -> bool:
    """Whether a library's heap can be limited and measured: by its exported functions, or by apsw's."""
    return library.shows_functions or library.code.__name__ == "apsw"


def _heap_functions(module: ModuleType) -> tuple[Any, Any, Any, Any]:
    """The functions for the hard limit, the soft limit, the memory in use, and its high-water mark."""
    library = reach(module)
    if not library.shows_functions and can_limit_heap(library):
        # apsw has them as Python functions.
        apsw: Any = library.code
        functions = apsw.hard_heap_limit, apsw.soft_heap_limit, apsw.memory_used
        return *functions, lambda reset: apsw.memory_high_water(bool(reset))
    return (
        library.function("sqlite3_hard_heap_limit64", ctypes.c_int64, ctypes.c_int64),
        library.function("sqlite3_soft_heap_limit64", ctypes.c_int64, ctypes.c_int64),
        library.function("sqlite3_memory_used", ctypes.c_int64),
        library.function("sqlite3_memory_highwater", ctypes.c_int64, ctypes.c_int),
    )


class HeapLimit(Limit):
    """Limits SQLite's heap to `extra_bytes` more than at the start of the scope; None: only measure.

    `reached` is the largest growth, in bytes. A refused allocation that SQLite recovered from is not counted.
    """

    certain = False

    def __init__(self, extra_bytes: int | None, *, module: ModuleType = sqlite3) -> None:
        super().__init__(module)
        self.extra_bytes = extra_bytes
        self._limit, self._soft_limit, self._used, self._most_used = _heap_functions(module)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Limit the whole process inside this scope; the previous limits are restored at its end."""
        used, soft = self._used(), self._soft_limit(-1)
        self._most_used(1)
        # 0 would mean no limit.
        before = self._limit(max(used + self.extra_bytes, 1)) if self.extra_bytes is not None else self._limit(-1)
        try:
            yield
        finally:
            self._limit(before)
            self._soft_limit(soft)
            self.reached = max(self.reached, self._most_used(0) - used)
