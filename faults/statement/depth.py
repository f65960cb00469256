"""The statement depth: BEGIN, the Nth statement, COMMIT or ROLLBACK fails, above SQLite and on any platform.

A `StatementDepth` holds the injectors; its `connect` opens connections that ask them (`faults.statement.connection`
says what they do, and what is not covered). One connection can be used under many plans, armed one after another::

    depth = StatementDepth()
    connection = depth.connect("file.db")
    with depth.arm("commit@1=BUSY") as armed:
        ...
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final, NamedTuple

from tornpage.faults.catalogue import require_possible, require_reachable
from tornpage.faults.injector import (
    BEGIN_LOCK,
    COMMIT_END,
    COMMIT_LOCK,
    STATEMENT_LOCK,
    STATEMENT_RISE,
    Injector,
    OnPath,
    OperationCounter,
    PlanInjector,
)
from tornpage.faults.locks import new_lock
from tornpage.faults.plan import STATEMENT_KINDS, FaultPlan
from tornpage.faults.result_codes import error_for
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.statement.connection import Ruling, WatchedConnection, WatchedCursor
from tornpage.faults.vfs.arm import Armed, Path, mark

_OPERATIONS: Final = frozenset((*STATEMENT_KINDS, BEGIN_LOCK, COMMIT_LOCK, COMMIT_END, STATEMENT_LOCK, STATEMENT_RISE))


class _Watcher(NamedTuple):
    injector: Injector
    marks: list[object]


class StatementDepth:
    """The injectors of the statement depth; `connect` opens connections that ask them, now and later.

    Several depths are independent of each other. All methods may be used from several threads.
    """

    def __init__(self, module: ModuleType = sqlite3) -> None:
        self.module = module
        self.kinds: frozenset[str] = frozenset()
        self._watchers: tuple[_Watcher, ...] = ()
        self._lock = new_lock()
        self._classes: dict[type, type] = {}
        self.own_cursor_class: type[sqlite3.Cursor] = _shared(WatchedCursor, module.Cursor)

    # -- connections ---------------------------------------------------------------------------------------

    def connect(
        self,
        database: Any,
        timeout: float = 5.0,
        detect_types: int = 0,
        isolation_level: str | None = "",
        check_same_thread: bool = True,
        factory: type[sqlite3.Connection] | None = None,
        cached_statements: int = 128,
        uri: bool = False,
        **more: Any,
    ) -> sqlite3.Connection:
        """``sqlite3.connect`` with the same arguments; a `factory` of your own is watched as well."""
        given = {
            "timeout": timeout,
            "detect_types": detect_types,
            "isolation_level": isolation_level,
            "check_same_thread": check_same_thread,
            "cached_statements": cached_statements,
            "uri": uri,
            **more,
        }
        if factory is not None:
            made: sqlite3.Connection = self.module.connect(database, factory=self.connection_class(factory), **given)
            return made
        # Creating a class is slow, and a search has one depth per fault point: all depths share this class.
        watched = _shared(WatchedConnection, self.module.Connection)
        connection: Any = watched.__new__(watched)
        connection.fault_depth = self
        connection.__init__(database, **given)
        return connection  # type: ignore[no-any-return]

    def connection_class(self, base: type[sqlite3.Connection] | None = None) -> type[sqlite3.Connection]:
        """The watched subclass of a connection class, to be passed as ``factory=``."""
        made: type[sqlite3.Connection] = self._watched(
            WatchedConnection, base or self.module.Connection, {"fault_depth": self}
        )
        return made

    def cursor_class(self, base: type[sqlite3.Cursor] | None = None) -> type[sqlite3.Cursor]:
        """The watched subclass of a cursor class."""
        if base is None:
            return self.own_cursor_class
        made: type[sqlite3.Cursor] = self._watched(WatchedCursor, base, {})
        return made

    def _watched(self, mixin: type, base: Any, attributes: dict[str, Any]) -> Any:
        if not isinstance(base, type):
            raise TypeError(f"pass a class, not {base!r}: the connections that a function returns can't be watched")
        with self._lock:
            if base not in self._classes:
                if not issubclass(base, mixin):
                    made = _subclass(mixin, base, attributes)
                elif all(getattr(base, name, None) is value for name, value in attributes.items()):
                    made = base
                else:
                    # The class of a connection that another depth has made, or that all depths share.
                    made = type(base.__name__, (base,), attributes)
                self._classes[base] = made
            return self._classes[base]

    # -- watchers ------------------------------------------------------------------------------------------

    def watch(self, injector: Injector, marks: list[object] | None = None) -> object:
        """Ask `injector` from now on; returns the watcher."""
        watcher = _Watcher(injector, [] if marks is None else marks)
        with self._lock:
            self._set((*self._watchers, watcher))
        return watcher

    @contextlib.contextmanager
    def watching(self, injector: Injector, marks: list[object] | None = None) -> Iterator[None]:
        """Ask `injector` inside this scope; injectors registered earlier take precedence.

        `marks` collects one mark for each exception that it raised; see `faults.vfs.arm.mark`.
        """
        watcher = self.watch(injector, marks)
        try:
            yield
        finally:
            with self._lock:
                self._set(tuple(one for one in self._watchers if one is not watcher))

    @contextlib.contextmanager
    def arm(self, plan: FaultPlan | str, path: Path | None = None) -> Iterator[Armed]:
        """Put a plan in force at this depth, for one database or the databases of one directory, or for all.

        Raises `PlanError`, `ImpossibleFaultError`. What surfaces is recognised by identity.
        """
        plan = FaultPlan.parse(plan) if isinstance(plan, str) else plan
        require_possible(plan)
        require_reachable(plan, STATEMENT_KINDS, "statement")
        marks: list[object] = []
        armed = Armed(plan, self.module, marks=marks)
        injector: Injector = armed.injector if path is None else OnPath(armed.injector, path)
        with self.watching(injector, marks):
            try:
                yield armed
            except Exception as error:
                armed.saw(error)
                raise

    @contextlib.contextmanager
    def count_operations(self, path: Path | None = None) -> Iterator[OperationCounter]:
        """Count the operations of this depth by (kind, role) and fault none."""
        counter = OperationCounter(_OPERATIONS)
        with self.watching(counter if path is None else OnPath(counter, path)):
            yield counter

    def ask(self, kind: str, path: str | None = None) -> Ruling | None:
        """Ask the watchers about an operation; the first fault that one returns is carried out."""
        for injector, marks in self._watchers:
            fault = injector.decide(kind, "any", path) if kind in injector.kinds else None
            if fault is not None:
                error = error_for(fault, self.module)
                marks.append(mark(error))
                return Ruling(fault, error)
        return None

    def _set(self, watchers: tuple[_Watcher, ...]) -> None:
        self._watchers = watchers
        self.kinds = frozenset[str]().union(*(watcher.injector.kinds for watcher in watchers))


def _subclass(mixin: type, base: Any, attributes: dict[str, Any]) -> Any:
    attributes = {"__module__": __name__, **attributes}
    # Python 3.12 and later have the attribute; elsewhere it must not appear to exist.
    if mixin is WatchedConnection and hasattr(base, "autocommit"):
        attributes["autocommit"] = WatchedConnection.fault_autocommit
    return type(f"Watched{base.__name__}", (mixin, base), attributes)


@functools.cache
def _shared(mixin: type, base: type) -> Any:
    """The watched subclass of a module's own class, shared by all depths; an instance refers to its depth."""
    return _subclass(mixin, base, {})


def depth_of(source: StatementDepth | Injector | FaultPlan | str, module: ModuleType = sqlite3) -> StatementDepth:
    """The depth itself, or a new one on which this injector or plan is permanently in force."""
    if isinstance(source, StatementDepth):
        return source
    if isinstance(source, str):
        source = FaultPlan.parse(source)
    if isinstance(source, FaultPlan):
        require_possible(source)
        require_reachable(source, STATEMENT_KINDS, "statement")
        source = PlanInjector(source)
    depth = StatementDepth(module)
    depth.watch(source)
    return depth


def faulting_connection(
    source: StatementDepth | Injector | FaultPlan | str, module: ModuleType = sqlite3
) -> type[sqlite3.Connection]:
    """A connection class for ``sqlite3.connect(…, factory=…)`` that asks this injector, plan or depth."""
    return depth_of(source, module).connection_class()


def faulting_connect(
    source: StatementDepth | Injector | FaultPlan | str, module: ModuleType = sqlite3
) -> Callable[..., sqlite3.Connection]:
    """A replacement for ``sqlite3.connect``, with its signature, that asks this injector, plan or depth."""
    return depth_of(source, module).connect
