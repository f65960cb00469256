"""The VFS shim: SQLite's own unix VFS with a question put before each watched operation.

Method. The default VFS's struct is copied and registered under the name ``tornpage``. Its ``xOpen`` lets the base
open the file in place and then points the file at a copy of its own method table. In that copy a slot is ours only
while somebody watches that kind of operation; otherwise it holds the base's own function, so that with nothing
armed the files run on the base's code. Each of our slots has one shape: describe the operation, ask the watchers,
then delegate, refuse, or do both. Roles (db, wal, journal, super, temp) come from the flags of ``xOpen``.

It must not be possible to crash the interpreter with it:

- an exception in a callback never reaches C. It is kept, the operation answers IOERR, and `Shim.raise_kept` raises
  it to the harness; signal handlers are kept out of where it could not be caught (`faults.vfs.signals`);
- tables and the VFS live in memory of SQLite's own allocator and are never freed, callbacks are referenced for the
  life of the process: a connection may outlive every scope here;
- when the scope ends, and again before the interpreter goes away, every slot goes back to the base's function.

Not covered: reads through memory mapping (``PRAGMA mmap_size``) do not pass ``xRead``.
"""

import atexit
import contextlib
import ctypes
import functools
import operator
import os
import random
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

from tornpage.faults.injector import SHM_RELEASE, Injector
from tornpage.faults.plan import KILL, VFS_KINDS, Fault
from tornpage.faults.vfs.library import IOERR, OK, SIGNATURES, IoMethods, Library, Vfs, reach
from tornpage.faults.vfs.operation_log import KINDS as RECORDED
from tornpage.faults.vfs.operation_log import Tape
from tornpage.faults.vfs.signals import Interrupts

NAME: Final = "tornpage"

_OPEN_ROLES: Final = (
    (0x100, "db"), (0x80000, "wal"), (0x800, "journal"), (0x4000, "super"), (0x7600, "temp"),
)  # fmt: skip
_SUFFIX_ROLES: Final = (("-wal", "wal"), ("-journal", "journal"))
_JULIAN_EPOCH_MS: Final = 210_866_760_000_000  # Julian days count from noon, 24 November 4714 BC
_SHM_LOCK: Final = 2  # SQLITE_SHM_LOCK; without it the call is a release


def _role_of_flags(flags: int) -> str:
    return next((role for flag, role in _OPEN_ROLES if flags & flag), "temp")


def _role_of_path(path: str | None) -> str:
    """The role of a file that is deleted or looked for by name only."""
    if path is None:
        return "temp"
    for suffix, role in _SUFFIX_ROLES:
        if path.endswith(suffix):
            return role
    return "super" if "-mj" in path.rsplit(os.sep, 1)[-1] else "db"


def _text(address: int | None) -> str | None:
    return None if address is None else os.fsdecode(ctypes.string_at(address))


def _half_write(args: Sequence[Any]) -> tuple[Any, ...]:
    file, buffer, size, offset = args
    return file, buffer, size // 2, offset


_kinds_of = operator.attrgetter("kinds")
_EVERY_KIND: Final = frozenset((*VFS_KINDS, SHM_RELEASE))


class _Slot(NamedTuple):
    """One watched slot of a method table: where it is, the original address, ours, and the kinds that need it."""

    field: str
    cell: ctypes.c_void_p
    base: int
    ours: int
    kinds: frozenset[str]


# Slot name, and the kinds of operation that pass through it.
_FILE_SLOTS: Final = (
    ("xRead", ("read",)), ("xWrite", ("write",)), ("xTruncate", ("truncate",)), ("xSync", ("sync",)),
    ("xLock", ("lock",)), ("xUnlock", ("unlock",)), ("xShmMap", ("shmmap",)), ("xShmLock", ("shmlock", SHM_RELEASE)),
)  # fmt: skip

# What gives something back has to happen even then.
_RELEASING: Final = frozenset({"xUnlock", "xShmLock"})


class Shim:
    """One shim for one libsqlite3; get it from `install`, never by hand.

    Attributes: `slept_us`, the virtual time SQLite has slept in `virtual_sleep`, in microseconds;
    `kept`, the exceptions that callbacks raised and that nobody has been told of yet.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.slept_us = 0
        self.kept: list[BaseException] = []
        # SQLite may absorb the error that is made of an interrupt: until it is told, nothing succeeds any more.
        self._interrupted = False
        self.paths: dict[int, str | None] = {}
        self._watchers: tuple[Injector, ...] = ()
        self._tapes: tuple[Tape, ...] = ()
        self._lock = threading.RLock()
        self._tables: dict[tuple[int, str], tuple[int, list[_Slot]]] = {}
        self._interrupts = Interrupts()
        # All slots that may be ours, and the kinds of operation for which they are.
        self._slots: list[_Slot] = []
        self._pointed: frozenset[str] | None = frozenset()
        for function in (self._keep, self._refresh, self._point):
            self._interrupts.keep_out_of(function)
        self._callbacks: list[Any] = []  # never emptied: C may call them for as long as the process lives
        self._depth = 0
        self._generator = random.Random(0)  # noqa: S311 - reproducible is the point
        self._julian_ms = _JULIAN_EPOCH_MS
        self._base = library.find_vfs()
        self._base_vfs = Vfs.from_address(self._base)
        self._address = library.immortal(ctypes.string_at(self._base, ctypes.sizeof(Vfs)))
        self._vfs = Vfs.from_address(self._address)
        self._vfs.zName = library.immortal(NAME.encode() + b"\0")
        self._vfs.pNext = None
        self._vfs_slots = [self._vfs_slot("xDelete", "delete"), self._vfs_slot("xAccess", "access")]
        self._slots += self._vfs_slots
        self._base_open = SIGNATURES["xOpen"](self._base_vfs.xOpen)
        self._open = self._guarded("xOpen", self._on_open)
        self._own = {
            "xSleep": self._guarded("xSleep", self._sleep),
            "xRandomness": self._guarded("xRandomness", self._randomness),
            "xCurrentTime": self._guarded("xCurrentTime", self._current_time),
            "xCurrentTimeInt64": self._guarded("xCurrentTimeInt64", self._current_time_int64),
        }
        self._uses: Counter[str] = Counter()
        # Whoever was the default before an `installed` scope is it again afterwards.
        self._default = self._base
        atexit.register(self._detach)

    @property
    def is_installed(self) -> bool:
        """Whether an `installed` scope is open."""
        return self._depth > 0

    @property
    def base_name(self) -> str:
        """The name of SQLite's own VFS, such as ``unix``: what to ask for to be out of reach."""
        return _text(self._base_vfs.zName) or ""

    # -- scopes --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def installed(self) -> Iterator["Shim"]:
        """Be the default VFS inside this scope; scopes nest. What was kept is raised at the end."""
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._vfs.xOpen = self._open
                self._refresh()
                self._default = self.library.find_vfs()
                self.library.register(self._address, default=True)
        try:
            with self._interrupts.held(), self.telling():
                yield self
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self._leave()

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Raise what callbacks kept when this scope ends."""
        try:
            yield
        except BaseException as error:
            self.raise_kept(during=error)
            raise
        self.raise_kept()

    @contextlib.contextmanager
    def watching(self, injector: Injector) -> Iterator[None]:
        """Ask `injector` about its kinds of operation inside this scope, after those that are asked already."""
        with self._lock:
            self._watchers = (*self._watchers, injector)
            self._refresh()
        try:
            with self._interrupts.held():
                yield
        finally:
            with self._lock:
                # The same injector may watch in an outer scope as well: only the innermost place is given up.
                places = [index for index, one in enumerate(self._watchers) if one is injector]
                if places:  # Not so when the process is on its way out and `_detach` has been here before.
                    self._watchers = self._watchers[: places[-1]] + self._watchers[places[-1] + 1 :]
                    self._refresh()

    @property
    def is_recording(self) -> bool:
        """Whether a tape is told of changes."""
        return bool(self._tapes)

    @contextlib.contextmanager
    def sparing(self) -> Iterator[None]:
        """Let no injector hear of anything inside this scope; tapes do."""
        with self._lock:
            watchers, self._watchers = self._watchers, ()
            self._refresh()
        try:
            yield
        finally:
            with self._lock:
                self._watchers = (*watchers, *self._watchers)
                self._refresh()

    @contextlib.contextmanager
    def recording(self, tape: Tape) -> Iterator[None]:
        """Tell `tape` of every change to a file that succeeds inside this scope, faulted or not."""
        with self._lock:
            self._tapes = (*self._tapes, tape)
            self._refresh()
        try:
            with self._interrupts.held():
                yield
        finally:
            with self._lock:
                self._tapes = tuple(one for one in self._tapes if one is not tape)
                self._refresh()

    @contextlib.contextmanager
    def signals_kept_out_of(self, *functions: Callable[..., Any]) -> Iterator[None]:
        """Let no signal handler raise directly in these callbacks inside this scope: C could not be told."""
        for function in functions:
            self._interrupts.keep_out_of(function)
        with self._interrupts.held():
            yield

    @contextlib.contextmanager
    def virtual_sleep(self) -> Iterator[None]:
        """Let ``xSleep`` return at once and count in `slept_us`: a busy timeout costs no real time."""
        with self._replaced("xSleep"):
            yield

    @contextlib.contextmanager
    def deterministic(self, seed: int = 0, now_ms: int = 1_600_000_000_000) -> Iterator[None]:
        """Fix SQLite's randomness and clock (`now_ms`, milliseconds since the epoch, UTC) inside this scope.

        With the same seed the same workload writes the same bytes, salts and journal headers included: the
        generator is seeded once per process, so it is reset on both edges.
        """
        outer = self._generator, self._julian_ms
        self._generator = random.Random(seed)  # noqa: S311 - reproducible is the point
        self._julian_ms = now_ms + _JULIAN_EPOCH_MS
        with self._replaced("xRandomness", "xCurrentTime", "xCurrentTimeInt64"):
            self.library.reset_randomness()
            try:
                yield
            finally:
                self._generator, self._julian_ms = outer
                self.library.reset_randomness()

    def raise_kept(self, during: BaseException | None = None) -> None:
        """Tell the harness of exceptions that callbacks kept; `during` is what is being raised anyway.

        An interrupt outranks what SQLite made of it; anything else is raised if nothing is on its way already,
        and is otherwise added as a note.
        """
        kept, self.kept = self.kept, []
        if self._interrupted:
            self._interrupted = False
            self._refresh()
        urgent = next((error for error in kept if not isinstance(error, Exception)), None)
        chosen = urgent or (kept[0] if kept and during is None else None)
        carrier = chosen or during
        for error in kept:
            if carrier is not None and error is not chosen:
                carrier.add_note(f"an exception in a callback of the shim: {error!r}")
        if chosen is not None:
            raise chosen from during

    # -- the one shape of every slot -----------------------------------------------------------------------

    def _ask(self, kind: str, role: str, path: str | None) -> Fault | None:
        # A slot is ours as soon as one watcher wants it, and xOpen always is.
        for watcher in self._watchers:
            if kind in watcher.kinds:
                fault = watcher.decide(kind, role, path)
                if fault is not None:
                    return fault
        return None

    def _carry_out(self, fault: Fault, base: Callable[..., int], args: Sequence[Any]) -> int:
        """Do as much of the operation as the timing says, then fail."""
        result = OK
        if fault.timing == "half":
            result = base(*_half_write(args))
        elif fault.timing == "after":
            result = base(*args)
        if fault.effect == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        return result or fault.code

    def _perform(self, base: Callable[..., int], kind: str, role: str, path: str | None, args: Sequence[Any]) -> int:
        """Ask, and carry out what is decided; tell the tapes of what has succeeded."""
        fault = self._ask(kind, role, path)
        perform = functools.partial(self._record, base, kind, path) if self._tapes else base
        return perform(*args) if fault is None else self._carry_out(fault, perform, args)

    def _record(self, base: Callable[..., int], kind: str, path: str | None, *args: Any) -> int:
        result = base(*args)
        if result == OK:
            for tape in self._tapes:
                tape.performed(kind, path, args)
        return result

    def _keep(self, error: BaseException) -> int:
        self.kept.append(error)
        if not (self._interrupted or isinstance(error, Exception)):
            self._interrupted = True
            self._refresh()
        return IOERR

    def _file_slot(self, field: str, kinds: tuple[str, ...], role: str, table: int, base_address: int) -> _Slot:
        """Our function for a slot of the files of one role. Called for every watched operation: no frame too many."""
        base = SIGNATURES[field](base_address)
        kind, paths, refusable, releases = kinds[0], self.paths, field not in _RELEASING, SHM_RELEASE in kinds

        def operation(*args: Any) -> int:
            try:
                if self._interrupted and refusable:
                    return IOERR
                # Of the slot for both, the flags are the last argument.
                done = SHM_RELEASE if releases and not args[3] & _SHM_LOCK else kind
                path = paths.get(args[0])
                if self._tapes:
                    return self._perform(base, done, role, path, args)
                for watcher in self._watchers:
                    if done in watcher.kinds:
                        fault = watcher.decide(done, role, path)
                        if fault is not None:
                            return self._carry_out(fault, base, args)
                return base(*args)  # type: ignore[no-any-return]
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                return self._keep(error)

        return self._slot(field, kinds, table + getattr(IoMethods, field).offset, base_address, operation)

    def _vfs_slot(self, field: str, kind: str) -> _Slot:
        base_address = getattr(self._base_vfs, field)
        base = SIGNATURES[field](base_address)

        def operation(*args: Any) -> int:
            try:
                if self._interrupted:
                    return IOERR
                path = _text(args[1])
                return self._perform(base, kind, _role_of_path(path), path, args)
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                return self._keep(error)

        return self._slot(field, (kind,), self._address + getattr(Vfs, field).offset, base_address, operation)

    def _slot(
        self, field: str, kinds: tuple[str, ...], place: int, base_address: int, operation: Callable[..., int]
    ) -> _Slot:
        cell = ctypes.c_void_p.from_address(place)
        return _Slot(field, cell, base_address, self._thunk(field, operation), frozenset(kinds))

    def _on_open(self, _vfs: int, name: int | None, file: int, flags: int, out_flags: int | None) -> int:
        # SQLite closes a file whose open failed only if it has a method table.
        methods = ctypes.c_size_t.from_address(file)
        methods.value = 0
        role, path = _role_of_flags(flags), _text(name)
        # The name goes on as the pointer it came as: SQLite keeps it, and reads beyond its end.
        args = (self._base, name, file, flags, out_flags)
        fault = self._ask("open", role, path) if self._watchers else None
        if fault is not None:
            return self._carry_out(fault, self._base_open, args)
        existed = bool(self._tapes) and path is not None and os.path.exists(path)  # noqa: PTH110 - on a hot path
        result: int = self._base_open(*args)
        if result == OK and methods.value:
            for tape in self._tapes:
                tape.opened(path, role, file, flags, existed=existed)
            known = self._tables.get((methods.value, role))
            methods.value = known[0] if known is not None else self._table(methods.value, role)
            self.paths[file] = path
        return result

    # -- tables --------------------------------------------------------------------------------------------

    def _table(self, base_methods: int, role: str) -> int:
        """The address of our copy of a method table for files of this role; made at its first use."""
        with self._lock:
            known = self._tables.get((base_methods, role))
            if known is not None:
                return known[0]
            base = IoMethods.from_address(base_methods)
            size = (IoMethods.xShmMap, IoMethods.xFetch)[base.iVersion - 1].offset if base.iVersion < 3 else 0
            address = self.library.immortal(ctypes.string_at(base_methods, size or ctypes.sizeof(IoMethods)))
            slots = [
                self._file_slot(field, kinds, role, address, getattr(base, field))
                for field, kinds in _FILE_SLOTS
                if (base.iVersion >= 2 or not field.startswith("xShm")) and getattr(base, field)
            ]
            IoMethods.from_address(address).xClose = self._closing(base.xClose)
            self._point(slots, None, self._pointed or frozenset())
            self._slots += slots
            self._tables[base_methods, role] = address, slots
            return address

    def _closing(self, base_address: int) -> int:
        """Forget a file's path when it is closed: addresses are used again."""
        base = SIGNATURES["xClose"](base_address)

        def close(file: int) -> int:
            try:
                self.paths.pop(file, None)
                return base(file)  # type: ignore[no-any-return]
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                return self._keep(error)

        # An interrupt before the base's turn would leave the descriptor open, and its locks held.
        return self._thunk("xClose", close)

    def _thunk(self, field: str, function: Callable[..., int]) -> int:
        """The C address of a Python function, referenced for ever."""
        self._interrupts.keep_out_of(function)
        callback = SIGNATURES[field](function)
        self._callbacks.append(callback)
        address = ctypes.cast(callback, ctypes.c_void_p).value
        assert address is not None  # noqa: S101 - a callback always has an address
        return address

    def _refresh(self) -> None:
        """Point every slot at our function where one of its kinds is watched, else at the base's.

        After an interrupt all of them are ours.
        """
        with self._lock:
            wanted: frozenset[str] = frozenset()
            if self._depth and self._interrupted:
                wanted = _EVERY_KIND
            elif self._depth:
                wanted = wanted.union(*map(_kinds_of, self._watchers), RECORDED if self._tapes else ())
            before = self._pointed
            if before != wanted:
                # Where this is cut short, the next one points all of them.
                self._pointed = None
                self._point(self._slots, before, wanted)
                self._pointed = wanted

    def _point(self, slots: list[_Slot], before: frozenset[str] | None, wanted: frozenset[str]) -> None:
        """Point the slots whose kinds are wanted otherwise than before; None: nobody knows what was before."""
        changed = _EVERY_KIND if before is None else before ^ wanted
        for slot in slots:
            if not slot.kinds.isdisjoint(changed):
                slot.cell.value = slot.base if slot.kinds.isdisjoint(wanted) else slot.ours

    @contextlib.contextmanager
    def _replaced(self, *fields: str) -> Iterator[None]:
        """Put our functions into slots of the VFS inside a scope; each is made once and kept."""
        self._use(fields, 1)
        try:
            yield
        finally:
            self._use(fields, -1)

    def _use(self, fields: Iterable[str], change: int) -> None:
        """Count the scopes that want a slot: on several threads they don't end in the order they began."""
        with self._lock:
            for field in fields:
                self._uses[field] += change
                source = self._own[field] if self._uses[field] > 0 else getattr(self._base_vfs, field)
                setattr(self._vfs, field, source)

    def _guarded(self, field: str, function: Callable[..., int]) -> int:
        def callback(*args: Any) -> int:
            try:
                return function(*args)
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                return self._keep(error)

        return self._thunk(field, callback)

    def _sleep(self, _vfs: int, microseconds: int) -> int:
        self.slept_us += microseconds
        return microseconds

    def _randomness(self, _vfs: int, size: int, out: int) -> int:
        ctypes.memmove(out, self._generator.randbytes(size), size)
        return size

    def _current_time(self, _vfs: int, out: int) -> int:
        ctypes.c_double.from_address(out).value = self._julian_ms / 86_400_000
        return OK

    def _current_time_int64(self, _vfs: int, out: int) -> int:
        ctypes.c_int64.from_address(out).value = self._julian_ms
        return OK

    # -- leaving -------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Stop being the default, and let files that are still open run on the base's code alone."""
        self.library.register(self._default, default=True)
        self.library.unregister(self._address)
        self._vfs.xOpen = self._base_vfs.xOpen
        self._refresh()

    def _detach(self) -> None:
        """Before the interpreter goes away: no slot leads to Python any more."""
        with self._lock:
            if self._depth:
                self._depth = 0
                self._leave()
            self._watchers, self._tapes = (), ()
            self._refresh()
            self._use(self._own, -self._uses.total())
            for (base_methods, _role), (address, _slots) in self._tables.items():
                IoMethods.from_address(address).xClose = IoMethods.from_address(base_methods).xClose


_shims: dict[str, Shim] = {}
_shims_lock = threading.Lock()


def shim_for(module: ModuleType = sqlite3) -> Shim:
    """The one shim of the libsqlite3 behind a DB-API module; raises `ShimUnavailableError`."""
    with _shims_lock:
        if module.__name__ not in _shims:
            _shims[module.__name__] = Shim(reach(module))
        return _shims[module.__name__]
