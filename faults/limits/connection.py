"""Limits on a connection: pages of the database, and steps of SQLite's virtual machine.

Both are SQLite's own, so the errors are real: ``PRAGMA max_page_count`` leads to ``database or disk is full``, and a
progress handler that returns non-zero interrupts the statement. They are set per connection, so they apply to the
connections that `Connections.connect` has opened before, or opens while they are in force.

Not covered: a progress handler that the target has set is removed by a limit on steps; connections that are bound to
another thread are ignored.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol

from tornpage.faults.errors import ShimUnavailableError
from tornpage.faults.limits.limit import Limit
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.shim import shim_for


class _OnConnection(Protocol):
    def put_on(self, connection: sqlite3.Connection) -> None: ...


class Connections:
    """Opens connections and remembers them, so that a limit can be set on them.

    `connect` replaces that of the module; it must return instances of a Python subclass of the module's connection.
    """

    def __init__(self, connect: Callable[..., sqlite3.Connection], module: ModuleType = sqlite3) -> None:
        self.module = module
        self._connect = connect
        self._opened: list[weakref.ref[sqlite3.Connection]] = []
        self._limits: list[_OnConnection] = []

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        """Open a connection, with the limits that are in force."""
        connection = self._connect(*arguments, **options)
        self._opened = [one for one in self._opened if one() is not None]
        self._opened.append(weakref.ref(connection))
        for limit in self._limits:
            limit.put_on(connection)
        return connection

    def opened(self) -> list[sqlite3.Connection]:
        """The connections that are still referenced; some may be closed."""
        return [connection for one in self._opened if (connection := one()) is not None]

    @contextlib.contextmanager
    def under(self, limit: _OnConnection) -> Iterator[None]:
        """Set a limit on all connections, including those that are opened inside this scope."""
        self._limits.append(limit)
        try:
            for connection in self.opened():
                limit.put_on(connection)
            yield
        finally:
            self._limits.remove(limit)


def _ask(connection: sqlite3.Connection, module: ModuleType, pragma: str) -> int | None:
    """The number that a PRAGMA returns, bypassing every subclass; None if the connection is closed or it fails."""
    try:
        cursor = module.Cursor(connection)
        with contextlib.closing(cursor):
            return int(cursor.execute(f"PRAGMA {pragma}").fetchone()[0])
    except (module.Error, MemoryError):
        return None


class PageLimit(Limit):
    """Limits a database's growth to `extra_pages` pages; None: only measure the growth.

    `reached` is the number of pages that the database grew by. A refusal that raised no error in a caller is not
    counted.
    """

    certain = False

    def __init__(self, connections: Connections, extra_pages: int | None) -> None:
        super().__init__(connections.module)
        self.extra_pages = extra_pages
        self._connections = connections
        # For each connection: its page count and its limit before this one.
        self._before: list[tuple[weakref.ref[sqlite3.Connection], int, int]] = []

    def put_on(self, connection: sqlite3.Connection) -> None:
        """Limit one connection, unless it is closed."""
        module = self._connections.module
        pages, limit = _ask(connection, module, "page_count"), _ask(connection, module, "max_page_count")
        if pages is None or limit is None:
            return
        self._before.append((weakref.ref(connection), pages, limit))
        if self.extra_pages is not None:
            # max_page_count=0 would only query the limit.
            _ask(connection, module, f"max_page_count={max(pages + self.extra_pages, 1)}")

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Limit every connection inside this scope; the previous limits are restored at its end."""
        module = self._connections.module
        try:
            with self._connections.under(self):
                yield
        finally:
            before, self._before = self._before, []
            for reference, pages, limit in before:
                connection = reference()
                if connection is None:
                    continue
                now = _ask(connection, module, "page_count")
                self.reached = max(self.reached, (now or 0) - pages)
                if self.extra_pages is not None:
                    _ask(connection, module, f"max_page_count={limit}")


class Interruption(Limit):
    """Interrupts a statement at the `at`-th step of the virtual machine; None: only count the steps.

    With `sticky` every later statement is interrupted at its first step.
    """

    def __init__(self, connections: Connections, at: int | None, *, sticky: bool = False) -> None:
        super().__init__(connections.module)
        self.at = at
        self.sticky = sticky
        self._connections = connections

    def is_due(self) -> bool:
        """Count one step; True to interrupt. Called from C."""
        self.reached += 1
        if self.at is None or self.reached < self.at or (self.reached > self.at and not self.sticky):
            return False
        self.fired += 1
        return True

    def put_on(self, connection: sqlite3.Connection) -> None:
        """Watch one connection, unless it is closed."""
        self._set_handler(connection, self.is_due)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Count and interrupt inside this scope."""
        with contextlib.ExitStack() as scopes:
            # A KeyboardInterrupt in the handler would only interrupt the statement, and be lost.
            with contextlib.suppress(ShimUnavailableError):
                scopes.enter_context(shim_for(self._connections.module).signals_kept_out_of(Interruption.is_due))
            scopes.callback(self._let_go)
            with self._connections.under(self):
                yield

    def _let_go(self) -> None:
        for connection in self._connections.opened():
            self._set_handler(connection, None)

    def _set_handler(self, connection: sqlite3.Connection, handler: Callable[[], bool] | None) -> None:
        module = self._connections.module
        with contextlib.suppress(module.Error):
            module.Connection.set_progress_handler(connection, handler, 1)
