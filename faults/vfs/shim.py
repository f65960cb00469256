"""The VFS shim: asks the injectors before each watched operation, inside SQLite's own VFS.

Method. The VFSs of the operating system (``unix``, ``unix-excl`` … or ``win32`` …) are static tables of functions in
the library. While the shim is installed it replaces their ``xOpen`` in place: our function lets the base open the file
and then points the file at a copy of its own method table. A slot of that copy, or of the VFS itself, holds our
function only while an injector or a tape watches that kind of operation; otherwise it holds the base's function, so
with nothing armed the files run on the base's code. Each of our functions has one shape: describe the operation, ask
the injectors, then delegate, refuse, or do both. Roles (db, wal, journal, super, temp) come from the flags of
``xOpen``.

A connection that was opened before the scope is out of reach, and so are the journals that it opens later: SQLite
passes the names of a database's journal and log as pointers into the memory that holds the database's own name, and the
shim knows those pointers for each database that was opened under it (`faults.reach.names`). `PAST` bypasses the shim on
purpose: a VFS with the base's own functions, registered in the library's list while the shim is in force.

The shim must not crash the interpreter:

- an exception in a callback never reaches C. The shim keeps it, the operation returns IOERR, and `Shim.raise_kept`
  raises it in the harness; signal handlers do not run where their exception could not be caught
  (`faults.vfs.signals`);
- tables live in memory that is never freed, and callbacks are referenced for the life of the process: a connection may
  outlive every scope of the shim;
- when the scope ends, and again before the interpreter exits, the shim restores the base's function in every slot: the
  library's own structures are then byte for byte as before.

Not covered: reads through memory mapping (``PRAGMA mmap_size``) do not pass ``xRead``; VFSs that are not the operating
system's (`faults.reach.library.Library.others`), unless they call one of those.
"""

import atexit
import contextlib
import ctypes
import functools
import operator
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Final

from tornpage.faults.errors import ShimUnavailableError
from tornpage.faults.injector import SHM_RELEASE, Injector, UnreadablePart
from tornpage.faults.locks import new_lock, new_reentrant_lock
from tornpage.faults.plan import KILL, VFS_KINDS, Fault
from tornpage.faults.reach import subinterpreters
from tornpage.faults.reach.bindings import open_memory
from tornpage.faults.reach.library import CANTOPEN, IOERR, OK, SIGNATURES, IoMethods, Library, reach
from tornpage.faults.reach.proof import IN_MEMORY, Vfs
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs import shared_files
from tornpage.faults.vfs.open_files import BESIDE, OpenFiles, role_of_flags, role_of_path
from tornpage.faults.vfs.operation_log import KINDS as RECORDED
from tornpage.faults.vfs.operation_log import Tape
from tornpage.faults.vfs.signals import Interrupts, raise_pending, was_pending, with_pending
from tornpage.faults.vfs.slots import GUEST, PAST, Callbacks, Past, Place, Slot, copy_of_methods
from tornpage.faults.vfs.virtual import Virtual

_SHM_LOCK: Final = 2  # SQLITE_SHM_LOCK; without it the call is a release


def _text(address: int | None) -> str | None:
    return None if address is None else os.fsdecode(ctypes.string_at(address))


def _half_write(args: Sequence[Any]) -> tuple[Any, ...]:
    file, buffer, size, offset = args
    return file, buffer, size // 2, offset


_kinds_of = operator.attrgetter("kinds")
_EVERY_KIND: Final = frozenset((*VFS_KINDS, SHM_RELEASE))

# The slot, and the kinds of operation that pass through it.
_FILE_SLOTS: Final = (
    ("xRead", ("read",)), ("xWrite", ("write",)), ("xTruncate", ("truncate",)), ("xSync", ("sync",)),
    ("xLock", ("lock",)), ("xUnlock", ("unlock",)), ("xShmMap", ("shmmap",)), ("xShmLock", ("shmlock", SHM_RELEASE)),
)  # fmt: skip

# The slots of a VFS that are replaced while a kind of operation is watched.
_VFS_SLOTS: Final = (("xDelete", "delete"), ("xAccess", "access"))

# Calls that release a lock: they must run even after an interrupt.
_RELEASING: Final = frozenset({"xUnlock", "xShmLock"})


class Shim:
    """The shim of one library; get it from `install` or `shim_for`, do not construct it.

    Attributes: `kept`, the exceptions that callbacks raised and that have not been raised in the harness yet; `paths`,
    the open files by SQLite's address; `handles`, the addresses of the open databases; `databases`, every database that
    was ever opened under this shim, and its VFS.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.kept: list[BaseException] = []
        # SQLite may absorb the error that an interrupt becomes: until it is raised, every operation fails.
        self._interrupted = False
        self._files = OpenFiles()
        self.paths, self.handles, self.databases = self._files.paths, self._files.handles, self._files.databases
        self._watchers: tuple[Injector, ...] = ()
        self._tapes: tuple[Tape, ...] = ()
        # The watchers that need the offset and the size of a read.
        self._parts: tuple[UnreadablePart, ...] = ()
        self._lock = new_reentrant_lock()
        self._tables: dict[tuple[int, str], tuple[int, list[Slot]]] = {}
        self._interrupts = Interrupts()
        self._callbacks = Callbacks(self._interrupts)
        # All slots that can be replaced, and the kinds of operation whose slots are replaced now.
        self._slots: list[Slot] = []
        self._pointed: frozenset[str] | None = frozenset()
        for function in (self._keep, _stop_all, self.stop, self._refresh, self._point, self._files.closed):
            self._interrupts.keep_out_of(function)
        self._depth = 0
        # Copied before any slot is replaced.
        self.pasts = [Past(one, PAST if index == 0 else f"{PAST}-{one.name}") for index, one in enumerate(library.vfss)]
        self._standing: contextlib.ExitStack | None = None
        self.guests = [Past(one, f"{GUEST}-{index}") for index, one in enumerate(library.vfss)]
        self.places = [Place(one) for one in library.vfss]
        self._virtual = Virtual(library, self.places, self._lock)
        for place in self.places:
            self._prepare(place)
        self._proved = False
        self._probing: int | None = None
        atexit.register(self._detach)

    def _prepare(self, place: Place) -> None:
        """Make our functions for a VFS's slots."""
        for field, kind in _VFS_SLOTS:
            self._slots.append(self._vfs_slot(place, field, kind))
        base_open = SIGNATURES["xOpen"](place.base["xOpen"])
        open_here = functools.partial(self._on_open, base_open, place.found.name)
        functions: dict[str, Callable[..., int]] = {"xOpen": open_here, **self._virtual.functions(place)}
        for field, function in functions.items():
            if field in place.base:
                place.ours[field] = self._guarded(field, function)

    @property
    def is_installed(self) -> bool:
        """Whether an `installed` scope is open."""
        return self._depth > 0

    def open_databases(self) -> set[str]:
        """The databases that connections of this library have open now."""
        return self._files.open_databases()

    def has_open(self, path: str | os.PathLike[str]) -> bool:
        """Whether a connection of this library has this database open, compared by device and inode, not by path."""
        try:
            status = os.stat(path)  # noqa: PTH116 - on a hot path
        except OSError:
            return False
        return self._files.has((status.st_dev, status.st_ino))

    # -- scopes --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def installed(self) -> Iterator["Shim"]:
        """Replace ``xOpen`` in the library's VFSs in this scope; scopes nest. Kept exceptions are raised at the end.

        Raises `ShimUnavailableError` if the library has been unloaded or does not call the replaced function, and
        `SubinterpreterError`.
        """
        with subinterpreters.refused():
            with self._lock:
                self._depth += 1
                if self._depth == 1:
                    try:
                        self._enter()
                    except BaseException:
                        self._depth = 0
                        raise
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
        """Raise the kept exceptions of callbacks when this scope ends."""
        try:
            yield
        except BaseException as error:
            self.raise_kept(during=error)
            raise
        self.raise_kept()

    @contextlib.contextmanager
    def watching(self, injector: Injector) -> Iterator[None]:
        """Ask `injector` about its kinds inside this scope; injectors registered earlier take precedence."""
        with self._lock:
            self._watchers = (*self._watchers, injector)
            self._refresh()
        try:
            with self._interrupts.held():
                yield
        finally:
            with self._lock:
                # The same injector may watch in an outer scope as well: remove only its innermost entry.
                places = [index for index, one in enumerate(self._watchers) if one is injector]
                if places:  # Empty if the process is exiting and `_detach` has already run.
                    self._watchers = self._watchers[: places[-1]] + self._watchers[places[-1] + 1 :]
                    self._refresh()

    @property
    def is_watched(self) -> bool:
        """Whether an injector is asked."""
        return bool(self._watchers)

    @property
    def is_recording(self) -> bool:
        """Whether a tape records changes."""
        return bool(self._tapes)

    @contextlib.contextmanager
    def sparing(self, *, tapes: bool = False) -> Iterator[None]:
        """Ask no injector inside this scope; with `tapes`, record nothing either."""
        with self._lock:
            watchers, self._watchers = self._watchers, ()
            self._refresh()
        try:
            with contextlib.ExitStack() as pauses:
                for tape in self._tapes if tapes else ():
                    pauses.enter_context(tape.paused())
                yield
        finally:
            with self._lock:
                self._watchers = (*watchers, *self._watchers)
                self._refresh()

    @contextlib.contextmanager
    def recording(self, tape: Tape) -> Iterator[None]:
        """Record on `tape` every change to a file that succeeds inside this scope, faulted or not."""
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
        """Let no signal handler raise directly in these callbacks inside this scope: C could not receive the error."""
        for function in functions:
            self._interrupts.keep_out_of(function)
        with self._interrupts.held():
            yield

    @property
    def slept_us(self) -> int:
        """The virtual time that SQLite has slept in `virtual_sleep`, in microseconds."""
        return self._virtual.slept_us

    def virtual_sleep(self, unless: Callable[[int], bool] | None = None) -> contextlib.AbstractContextManager[None]:
        """Let ``xSleep`` return at once inside this scope: a busy timeout costs no real time.

        `unless` is called at each sleep with its microseconds; if it returns True, that sleep is real.
        """
        return self._virtual.sleep(unless)

    def deterministic(self, seed: int = 0, now_ms: int = 1_600_000_000_000) -> contextlib.AbstractContextManager[None]:
        """Fix SQLite's randomness and clock (`now_ms`, milliseconds since the epoch, UTC) inside this scope.

        With the same seed the same workload writes the same bytes, salts and journal headers included.
        """
        return self._virtual.chance(seed, now_ms)

    def seeded(self, seed: int | str) -> contextlib.AbstractContextManager[None]:
        """Let SQLite's random values (`random()`, `randomblob()`) depend on the seed inside this scope."""
        return self._virtual.seeded(seed)

    def timed(self, clock: Callable[[], int]) -> contextlib.AbstractContextManager[None]:
        """Let SQLite's clock (`datetime('now')`) show what `clock` returns inside this scope, in ms since the epoch."""
        return self._virtual.timed(clock)

    def raise_kept(self, during: BaseException | None = None) -> None:
        """Raise the exceptions that callbacks kept; `during` is the exception that is being raised already.

        An interrupt takes precedence over the error that SQLite reported for it. Any other exception is raised if
        `during` is None, and is otherwise added to it as a note.
        """
        raise_kept(self.take_kept(), during)

    def take_kept(self) -> list[BaseException]:
        """Return and clear the kept exceptions; operations can succeed again."""
        kept, self.kept = self.kept, []
        if self._interrupted:
            _stop_all(stopped=False)
        return kept

    def stop(self, *, stopped: bool) -> None:
        """Make every operation fail (or succeed again, if not `stopped`); releasing a lock always works."""
        if self._interrupted != stopped:
            self._interrupted = stopped
            self._refresh()

    # -- the one shape of every slot -----------------------------------------------------------------------

    def _ask(self, kind: str, role: str, path: str | None) -> Fault | None:
        # A slot is replaced as soon as one watcher wants it, and xOpen always is.
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
        """Ask the injectors and carry out their decision; record on the tapes what succeeded."""
        fault = self._ask(kind, role, path)
        perform = functools.partial(self._record, base, kind, path) if self._tapes else base
        if fault is None:
            return perform(*args)
        if fault.timing != "after":
            for tape in self._tapes:
                tape.failed(kind, path)
        return self._carry_out(fault, perform, args)

    def _record(self, base: Callable[..., int], kind: str, path: str | None, *args: Any) -> int:
        result = base(*args)
        for tape in self._tapes:
            if result == OK:
                tape.performed(kind, path, args)
            else:
                tape.failed(kind, path)
        return result

    def _keep(self, error: BaseException) -> int:
        self.kept.append(error)
        if not (self._interrupted or isinstance(error, Exception)):
            _stop_all(stopped=True)
        return IOERR

    def _keep_or_again(self, error: BaseException, callback: Callable[..., int], args: Sequence[Any]) -> int:
        """Keep an exception; if it was set before SQLite called us, run the callback again instead."""
        return with_pending(error, callback(*args)) if was_pending(error) else self._keep(error)

    def _file_slot(self, field: str, kinds: tuple[str, ...], role: str, table: int, base_address: int) -> Slot:
        """Our function for a slot of the files of one role. It runs for every watched operation: keep it flat."""
        base = SIGNATURES[field](base_address)
        kind, paths, refusable, releases = kinds[0], self.paths, field not in _RELEASING, SHM_RELEASE in kinds

        def operation(*args: Any) -> int:
            try:
                raise_pending()
                if self._interrupted and refusable:
                    return IOERR
                # xShmLock takes and releases: its flags are the last argument.
                done = SHM_RELEASE if releases and not args[3] & _SHM_LOCK else kind
                path = paths.get(args[0])
                # The last two arguments of a read are the size and the offset.
                if self._parts and kind == "read" and any(one.covers(path, *args[2:]) for one in self._parts):
                    return UnreadablePart.code
                if self._tapes:
                    return self._perform(base, done, role, path, args)
                for watcher in self._watchers:
                    if done in watcher.kinds:
                        fault = watcher.decide(done, role, path)
                        if fault is not None:
                            return self._carry_out(fault, base, args)
                return base(*args)  # type: ignore[no-any-return]
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                return self._keep_or_again(error, operation, args)

        ours = self._callbacks.address(field, operation)
        return Slot.at(table + getattr(IoMethods, field).offset, field, base_address, ours, kinds)

    def _vfs_slot(self, place: Place, field: str, kind: str) -> Slot:
        base = SIGNATURES[field](place.base[field])

        def operation(*args: Any) -> int:
            try:
                raise_pending()
                if self._interrupted:
                    return IOERR
                path = _text(args[1])
                role = role_of_path(path)
                if role in BESIDE and not self._files.is_ours(args[1], path, self._has_a_vfs_of_the_program):
                    return base(*args)  # type: ignore[no-any-return]
                return self._perform(base, kind, role, path, args)
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                return self._keep_or_again(error, operation, args)

        ours = self._callbacks.address(field, operation)
        return Slot.at(place.cell_of(field), field, place.base[field], ours, (kind,))

    def _on_open(
        self, base: Callable[..., int], vfs_name: str, vfs: int, name: int | None, file: int, flags: int, out: int
    ) -> int:
        # Pass the name on as the same pointer: SQLite keeps it, and reads beyond its end.
        args = (vfs, name, file, flags, out)
        role, path = role_of_flags(flags), _text(name)
        if not self._depth or (role in BESIDE and not self._files.is_ours(name, path, self._has_a_vfs_of_the_program)):
            return base(*args)
        # SQLite closes a file whose open failed only if it has a method table.
        methods = ctypes.c_size_t.from_address(file)
        methods.value = 0
        if self._probing == threading.get_ident():
            self._proved = True
            return CANTOPEN
        fault = self._ask("open", role, path) if self._watchers else None
        if fault is not None:
            return self._carry_out(fault, base, args)
        existed = bool(self._tapes) and path is not None and os.path.exists(path)  # noqa: PTH110 - on a hot path
        for tape in self._tapes:
            tape.opening(path, flags, existed=existed)
        result: int = base(*args)
        for tape in self._tapes if result != OK else ():
            tape.not_opened(path)
        if result == OK and methods.value:
            for tape in self._tapes:
                tape.opened(path, role, file, flags)
            known = self._tables.get((methods.value, role))
            methods.value = known[0] if known is not None else self._table(methods.value, role)
            identity = self._files.opened(file, name, path, role, vfs_name)
            if path is not None and identity is not None:
                others = (one for one in _shims.values() if one is not self)
                holders = (one.library.title for one in others if one._files.has(identity))
                shared_files.opened(path, self.library.title, holders)
        return result

    def _has_a_vfs_of_the_program(self) -> bool:
        """Whether the library has a VFS that is neither the system's nor ours, such as one in Python by apsw.

        Not found: one that is the default, before all others in SQLite's list.
        """
        known = {one.address for one in self.library.vfss} | {one.address for one in (*self.pasts, *self.guests)}
        address = self.library.vfss[0].address
        while address:
            vfs = Vfs.from_address(address)
            if address not in known and ctypes.string_at(vfs.zName) != IN_MEMORY.encode():
                return True
            address = vfs.pNext or 0
        return False

    # -- tables --------------------------------------------------------------------------------------------

    def _table(self, base_methods: int, role: str) -> int:
        """The address of our copy of a method table for files of this role; made at first use."""
        with self._lock:
            known = self._tables.get((base_methods, role))
            if known is not None:
                return known[0]
            base = IoMethods.from_address(base_methods)
            address = copy_of_methods(base_methods)
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
        """Forget a file when it is closed: SQLite reuses addresses."""
        base = SIGNATURES["xClose"](base_address)

        def close(file: int) -> int:
            # An interrupt before the base runs would leave the descriptor open and its locks held.
            try:
                raise_pending()
                self._files.closed(file)
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                if was_pending(error):
                    return with_pending(error, close(file))
                self._keep(error)
            try:
                return base(file)  # type: ignore[no-any-return]
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                return self._keep_or_again(error, close, (file,))

        return self._callbacks.address("xClose", close)

    def _refresh(self) -> None:
        """Point every slot at our function if one of its kinds is watched, else at the base's.

        After an interrupt all slots hold our functions.
        """
        with self._lock:
            self._parts = tuple([one for one in self._watchers if isinstance(one, UnreadablePart)])
            wanted: frozenset[str] = frozenset()
            if self._depth and self._interrupted:
                wanted = _EVERY_KIND
            elif self._depth:
                wanted = wanted.union(*map(_kinds_of, self._watchers), RECORDED if self._tapes else ())
            before = self._pointed
            if before != wanted:
                # If this is interrupted, the next call points all slots.
                self._pointed = None
                self._point(self._slots, before, wanted)
                self._pointed = wanted

    def _point(self, slots: list[Slot], before: frozenset[str] | None, wanted: frozenset[str]) -> None:
        """Point the slots whose kinds changed between `before` and `wanted`; `before` is None if it is unknown."""
        changed = _EVERY_KIND if before is None else before ^ wanted
        for slot in slots:
            if not slot.kinds.isdisjoint(changed):
                slot.cell.value = slot.base if slot.kinds.isdisjoint(wanted) else slot.ours

    def _guarded(self, field: str, function: Callable[..., int]) -> int:
        def callback(*args: Any) -> int:
            try:
                raise_pending()
                return function(*args)
            except BaseException as error:  # noqa: BLE001 - nothing may reach C
                return self._keep_or_again(error, callback, args)

        return self._callbacks.address(field, callback)

    # -- installing and removing -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def vfs_for(self, path: str, holder: "Shim | None" = None, *, watched: bool = False) -> Iterator[str]:
        """The name of the VFS with which a connection of this library opens a database, inside this scope.

        That VFS bypasses the shim, unless the connection is to be `watched`. `holder` is the shim of the library that
        has the database open: the holder's VFS then serves this library's connection, because each library keeps its
        own record of locks and shared memory. (The system grants POSIX locks per process: two libraries that open one
        file separately release each other's locks.)
        """
        owner = holder or self
        # Try the path as given first: resolving it costs a system call for each of its parts.
        opened_by = owner.databases.get(path) or owner.databases.get(os.path.realpath(path))
        index = next((at for at, one in enumerate(owner.library.vfss) if one.name == opened_by), 0)
        if owner is self and (watched or not self._depth):
            yield self.library.vfss[index].name
            return
        past = (owner.guests if watched else owner.pasts)[index]
        if watched:
            past.refresh()
        if owner is self and not watched:
            self._let_stand()
            yield past.name
            return
        with self._lock, past.standing_in(self.library.vfss[0]):
            yield past.name

    def _let_stand(self) -> None:
        """Keep the VFSs that bypass the shim registered for as long as the shim is in force.

        A reader that attaches a second database looks up its own VFS by name.
        """
        with self._lock:
            if self._standing is None:
                self._standing = contextlib.ExitStack()
                for past in self.pasts:
                    self._standing.enter_context(past.standing_in(self.library.vfss[0]))

    def _enter(self) -> None:
        """Replace ``xOpen``; the first time, prove that SQLite really calls the replaced function."""
        if self._proved:
            self.library.require_alive()
        for place in self.places:
            place.take("xOpen")
        self._refresh()
        if not self._proved:
            self._prove()

    def _prove(self) -> None:
        """Attach a file that doesn't exist: the call must reach our function. No file is touched.

        Its directory doesn't exist either: if our function is not called, SQLite would create the file.
        """
        self._probing = threading.get_ident()
        try:
            connection = open_memory(self.library.code)
            try:
                connection.cursor().execute("ATTACH 'no-such-directory/tornpage-probe' AS probe")
            except self.library.code.Error:
                pass
            finally:
                connection.close()
        finally:
            self._probing = None
        if not self._proved:
            self._leave()
            raise ShimUnavailableError(
                f"{self.library.name} does not call the function that was put into its VFS {self.library.vfss[0].name}"
            )

    def _leave(self) -> None:
        """Restore the VFSs' own functions; files that are still open run on the base's code from now on."""
        standing, self._standing = self._standing, None
        if standing is not None:
            standing.close()
        for place in self.places:
            place.give_back("xOpen")
        self._refresh()

    def _detach(self) -> None:
        """Restore every slot before the interpreter exits, so that none calls into Python."""
        with self._lock:
            if self._depth:
                self._depth = 0
                self._leave()
            self._watchers, self._tapes = (), ()
            self._refresh()
            self._virtual.detach()
            for (base_methods, _role), (address, _slots) in self._tables.items():
                IoMethods.from_address(address).xClose = IoMethods.from_address(base_methods).xClose


def raise_kept(kept: Sequence[BaseException], during: BaseException | None) -> None:
    """Raise kept exceptions as `Shim.raise_kept` describes."""
    urgent = next((error for error in kept if not isinstance(error, Exception)), None)
    chosen = urgent or (kept[0] if kept and during is None else None)
    carrier = chosen or during
    for error in kept:
        if carrier is not None and error is not chosen:
            carrier.add_note(f"an exception in a callback of the shim: {error!r}")
    if chosen is not None:
        raise chosen from during


def _stop_all(*, stopped: bool) -> None:
    """Stop or resume every shim: an interrupt concerns the whole process, whichever library it arrived in."""
    for shim in _shims.values():
        shim.stop(stopped=stopped)


_shims: dict[int, Shim] = {}
_shims_lock = new_lock()


def shim_for(module: ModuleType = sqlite3) -> Shim:
    """The one shim of the library behind a binding; raises `ShimUnavailableError`."""
    library = reach(module)
    with _shims_lock:
        if id(library) not in _shims:
            _shims[id(library)] = Shim(library)
        return _shims[id(library)]
