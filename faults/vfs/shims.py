"""All SQLite libraries of the process under one set of scopes: each scope applies to every library.

A process may hold several copies of SQLite (``sqlite3``, ``pysqlite3``, ``apsw`` …), each with its own VFSs, files and
locks. `Shims` has one `Shim` for each. A library that is imported while `Shims` is installed is added, and the open
scopes apply to it from then on. A library that can't be reached is listed (`Shims.unreachable`); it is an error only
for Python's own ``sqlite3``.

Not covered: copies of SQLite that no known binding leads to (inside other extension modules, for example).
`Shims.has_opened` says which databases the watched libraries have opened, so that a database of another copy can be
detected.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

from tornpage.faults.errors import ShimUnavailableError
from tornpage.faults.injector import Injector
from tornpage.faults.locks import new_reentrant_lock
from tornpage.faults.reach import bindings
from tornpage.faults.reach.bindings import BINDINGS, Binding, code_of
from tornpage.faults.vfs.operation_log import Tape
from tornpage.faults.vfs.shim import Shim, raise_kept, shim_for

_OWN: Final = BINDINGS[0]
# The characters of a source id that are shown: date, time, and enough of the hash to search for.
_SHOWN: Final = 32
_Scope = Callable[[Shim], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class LibraryFacts:
    """The facts of one SQLite library: its name (its bindings), version, and which of its parts are out of reach.

    `unreachable` is the reason why it can't be watched at all; "" if it is watched.
    """

    name: str
    version: str = ""
    source_id: str = ""
    way: str = ""
    out_of_reach: tuple[str, ...] = ()
    unreachable: str = ""

    def __str__(self) -> str:
        if self.unreachable:
            return f"{self.name} can't be reached: {self.unreachable}"
        lacking = f", out of reach: {'; '.join(self.out_of_reach)}" if self.out_of_reach else ""
        return f"{self.name} on SQLite {self.version} ({self.source_id[:_SHOWN]}){lacking}"


class Shims:
    """The shims of all libraries; get it from `install` or `shims`, do not construct it."""

    def __init__(self) -> None:
        self.unreachable: dict[str, str] = {}
        self._members: list[Shim] = []
        self._open: list[tuple[_Scope, ExitStack]] = []
        self._depth = 0
        self._lock = new_reentrant_lock()
        self._importing = _Importing(self._imported)

    # -- state ---------------------------------------------------------------------------------------------

    @property
    def is_installed(self) -> bool:
        """Whether an `installed` scope is open."""
        return self._depth > 0

    @property
    def members(self) -> tuple[Shim, ...]:
        """One shim for each library that is within reach; looks first for bindings that were loaded meanwhile."""
        with self._lock:
            self._look()
            return tuple(self._members)

    def notes(self) -> tuple[str, ...]:
        """One line per library for a report; empty if there is only one and all of it is within reach."""
        facts = self.facts()
        if len(facts) == 1 and not (facts[0].unreachable or facts[0].out_of_reach):
            return ()
        return tuple(map(str, facts))

    def facts(self) -> tuple[LibraryFacts, ...]:
        """The facts of each library of this process."""
        known = [
            LibraryFacts(
                name=one.library.name,
                version=one.library.version,
                source_id=one.library.source_id,
                way="in place, functions by name" if one.library.shows_functions else "in place",
                out_of_reach=one.library.out_of_reach,
            )
            for one in self.members
        ]
        return (*known, *(LibraryFacts(name, unreachable=reason) for name, reason in self.unreachable.items()))

    @property
    def slept_us(self) -> int:
        """The virtual time that all of them have slept, in microseconds."""
        return sum(one.slept_us for one in self._members)

    @property
    def paths(self) -> dict[int, str | None]:
        """The files that are open, by the addresses that the libraries know them by."""
        return {file: path for one in self._members for file, path in one.paths.items()}

    @property
    def handles(self) -> int:
        """How many handles on databases the libraries have open."""
        # A loop, since it is asked before and after every call.
        open_now = 0
        for one in self._members:
            open_now += len(one.handles)
        return open_now

    @property
    def kept(self) -> list[BaseException]:
        """The exceptions that callbacks raised and that have not been raised in the harness yet."""
        return [error for one in self._members for error in one.kept]

    @property
    def is_recording(self) -> bool:
        """Whether a tape records changes."""
        return any(one.is_recording for one in self._members)

    def has_opened(self, path: str | os.PathLike[str]) -> bool:
        """Whether a watched library has ever opened this database."""
        real = os.path.realpath(path)
        return any(real in one.databases for one in self._members)

    def opener_of(self, path: str | os.PathLike[str]) -> Shim | None:
        """The shim of a library that has ever opened a database; if there are several, one that is not `sqlite3`'s.

        The harness reads the database with this library, on files that no store has open.
        """
        real = os.path.realpath(path)
        return next((one for one in reversed(self._members) if real in one.databases), None)

    def holder_of(self, path: str | os.PathLike[str]) -> Shim | None:
        """The shim of the library that has a database open now."""
        return next((one for one in self._members if one.has_open(path)), None)

    def has_file_open(self, path: str | os.PathLike[str]) -> bool:
        """Whether a watched library has a file open under this name: a database, a log or a journal."""
        return self._has_name(os.fspath(path)) or self._has_name(os.path.realpath(path))

    def _has_name(self, name: str) -> bool:
        return any(name in one.paths.values() for one in self._members)

    # -- scopes --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def installed(self) -> Iterator["Shims"]:
        """Install the shim of every library inside this scope; scopes nest. Kept exceptions are raised at the end.

        Raises `ShimUnavailableError` if Python's own ``sqlite3`` can't be reached.
        """
        with self._lock:
            self._look()
            if (reason := self.unreachable.get(_OWN.name)) is not None:
                raise ShimUnavailableError(reason)
            self._depth += 1
            if self._depth == 1:
                self._importing.begin()
        try:
            with self._on_each(Shim.installed), self.telling():
                yield self
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self._importing.end()

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Raise the kept exceptions of callbacks when this scope ends."""
        try:
            yield
        except BaseException as error:
            self.raise_kept(during=error)
            raise
        self.raise_kept()

    def raise_kept(self, during: BaseException | None = None) -> None:
        """As `Shim.raise_kept`, for all of them."""
        raise_kept([error for one in self._members for error in one.take_kept()], during)

    def stop(self, *, stopped: bool) -> None:
        """Make every operation fail (or succeed again, if not `stopped`): it ends code that retries inside C."""
        for shim in self.members:
            shim.stop(stopped=stopped)

    def watching(self, injector: Injector) -> AbstractContextManager[None]:
        """As `Shim.watching`."""
        return self._on_each(lambda shim: shim.watching(injector))

    def sparing(self, *, tapes: bool = False) -> AbstractContextManager[None]:
        """As `Shim.sparing`."""
        # Nearly always nothing is in force: this is entered several times at each point.
        if self._members and not any(one.is_watched or (tapes and one.is_recording) for one in self._members):
            return nullcontext()
        return self._on_each(lambda shim: shim.sparing(tapes=tapes))

    def recording(self, tape: Tape) -> AbstractContextManager[None]:
        """As `Shim.recording`."""
        return self._on_each(lambda shim: shim.recording(tape))

    def signals_kept_out_of(self, *functions: Callable[..., Any]) -> AbstractContextManager[None]:
        """As `Shim.signals_kept_out_of`."""
        return self._on_each(lambda shim: shim.signals_kept_out_of(*functions))

    def virtual_sleep(self, unless: Callable[[int], bool] | None = None) -> AbstractContextManager[None]:
        """As `Shim.virtual_sleep`."""
        return self._on_each(lambda shim: shim.virtual_sleep(unless))

    def deterministic(self, seed: int = 0, now_ms: int = 1_600_000_000_000) -> AbstractContextManager[None]:
        """As `Shim.deterministic`; a library whose generator can't be seeded anew keeps its own randomness."""
        return self._on_each(lambda shim: shim.deterministic(seed, now_ms))

    def seeded(self, seed: int | str) -> AbstractContextManager[None]:
        """As `Shim.seeded`; a library whose generator can't be seeded anew keeps its own randomness."""
        return self._on_each(lambda shim: shim.seeded(seed))

    def timed(self, clock: Callable[[], int]) -> AbstractContextManager[None]:
        """As `Shim.timed`."""
        return self._on_each(lambda shim: shim.timed(clock))

    @contextlib.contextmanager
    def _on_each(self, scope: _Scope) -> Iterator[None]:
        """Open a scope on each library, also on those that are imported later."""
        entry = (scope, ExitStack())
        with self._lock:
            self._open.append(entry)
            try:
                for shim in self._members:
                    entry[1].enter_context(scope(shim))
            except BaseException:
                self._open.remove(entry)
                entry[1].close()
                raise
        try:
            yield
        finally:
            with self._lock:
                self._open.remove(entry)
            entry[1].close()

    # -- libraries imported later --------------------------------------------------------------------------

    def _look(self) -> None:
        for binding in (_OWN, *bindings.imported()):
            self._take_in(binding)

    def _take_in(self, binding: Binding) -> None:
        if binding.name in self.unreachable or any(binding in one.library.bindings for one in self._members):
            return
        try:
            shim = shim_for(code_of(binding))
        except ShimUnavailableError as error:
            self.unreachable[binding.name] = error.reason
            return
        if shim in self._members:
            return
        self._members.append(shim)
        for scope, stack in self._open:
            try:
                stack.enter_context(scope(shim))
            except ShimUnavailableError as error:
                self._members.remove(shim)
                self.unreachable[binding.name] = error.reason
                return

    def _imported(self) -> None:
        with self._lock:
            self._look()


class _Importing:
    """Detects the import of bindings: a finder before all others, which delegates to them."""

    def __init__(self, imported: Callable[[], None]) -> None:
        self._imported = imported
        self._names = {one.name for one in BINDINGS}
        self._busy = threading.local()

    def begin(self) -> None:
        """Start to detect imports."""
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Stop detecting imports."""
        # While the interpreter exits, `sys.meta_path` may be gone.
        with contextlib.suppress(ValueError, AttributeError):
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that the other finders find, with a loader that calls back when a binding has been executed."""
        if name not in self._names or getattr(self._busy, "name", None) == name:
            return None
        self._busy.name = name
        try:
            spec = next(
                (
                    found
                    for finder in sys.meta_path
                    if finder is not self and (found := finder.find_spec(name, path, target)) is not None
                ),
                None,
            )
        finally:
            self._busy.name = None
        if spec is not None and spec.loader is not None:
            spec.loader = _NotifyingLoader(spec.loader, spec, self._imported)  # type: ignore[assignment]  # a wrapper
        return spec


class _NotifyingLoader:
    """A loader that calls back after it has executed its module, and then restores the original loader."""

    def __init__(self, loader: Any, spec: ModuleSpec, imported: Callable[[], None]) -> None:
        self._loader = loader
        self._spec = spec
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader does."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """As the loader does; then call back."""
        self._spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._imported()


_all = Shims()


def shims() -> Shims:
    """The shims of every library in this process."""
    return _all
