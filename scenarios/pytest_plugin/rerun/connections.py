"""The connections that a test opens, found by Python's own audit event, however they are opened.

``sqlite3`` tells of each connection it has made (``sqlite3.connect/handle``). Connections can't be referenced weakly,
so they are kept; one that nobody else has any more is closed and let go of at the next look, which is before the next
one is opened. So code that leaves the closing to the garbage collector behaves as it would.

An audit hook can't be taken away again. It is added once, when the first test is about to be run under faults, and
does nothing outside of such a run. Not covered: drivers other than ``sqlite3``, which do not tell.
"""

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any


class Connections:
    """The connections of one run: `own` are the test's, `shared` those of fixtures with a wider scope, of any run."""

    def __init__(self, shared: list[sqlite3.Connection]) -> None:
        self.own: list[sqlite3.Connection] = []
        self.shared = shared
        self._sharing = False

    def opened(self, connection: sqlite3.Connection) -> None:
        """Keep one."""
        (self.shared if self._sharing else self.own).append(connection)

    @contextlib.contextmanager
    def sharing_all(self) -> Iterator[None]:
        """What is opened inside this scope is shared: a fixture that outlives the run is being set up."""
        outer, self._sharing = self._sharing, True
        try:
            yield
        finally:
            self._sharing = outer

    def let_go(self) -> None:
        """Close those that nobody else has."""
        if any(sys.getrefcount(connection) <= _ONLY_HERE for connection in self.own):
            kept = []
            while self.own:
                connection = self.own.pop()
                # The list has let go of it: one reference less than above.
                if sys.getrefcount(connection) < _ONLY_HERE:
                    close(connection)
                else:
                    kept.append(connection)
            self.own = kept[::-1]

    def in_transaction(self) -> list[sqlite3.Connection]:
        """Those with a transaction that is open."""
        self.let_go()
        return [connection for connection in (*self.own, *self.shared) if _in_transaction(connection)]

    def end(self) -> int:
        """Close what is still open of the test's own, and end the transactions of the others; how many were open."""
        self.let_go()
        still_open = [connection for connection in self.own if is_open(connection)]
        for connection in still_open:
            close(connection)
        for connection in self.shared:
            if _in_transaction(connection):
                with contextlib.suppress(sqlite3.Error):
                    connection.rollback()
        self.own.clear()
        self.shared[:] = [connection for connection in self.shared if is_open(connection)]
        return len(still_open)


def _references_of_a_list_item() -> int:
    # What a loop over a list counts, and how often a connection refers to itself, differs between versions of Python.
    alone = [sqlite3.connect(":memory:")]
    references = max(sys.getrefcount(one) for one in alone)
    alone[0].close()
    return references


_ONLY_HERE = _references_of_a_list_item()


def is_open(connection: sqlite3.Connection) -> bool:
    """Whether it has not been closed, nor failed to open."""
    try:
        _ = connection.total_changes
    except sqlite3.Error:
        return False
    return True


def _in_transaction(connection: sqlite3.Connection) -> bool:
    try:
        return connection.in_transaction
    except sqlite3.Error:
        return False


def close(connection: sqlite3.Connection) -> None:
    """Close it past every subclass; one that belongs to another thread stays as it is."""
    with contextlib.suppress(sqlite3.Error):
        sqlite3.Connection.close(connection)


def file_of(connection: sqlite3.Connection) -> str:
    """The main database's file, for people."""
    try:
        rows = sqlite3.Cursor(connection).execute("PRAGMA database_list").fetchall()
    except sqlite3.Error:
        return "a database"
    return next((str(row[2]) for row in rows if row[1] == "main" and row[2]), "a database in memory")


_runs: list[Connections] = []
_hooked = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _runs and event.startswith("sqlite3.connect"):
        if event == "sqlite3.connect":
            _runs[-1].let_go()
        elif event == "sqlite3.connect/handle":
            _runs[-1].opened(arguments[0])


@contextlib.contextmanager
def tracked(shared: list[sqlite3.Connection]) -> Iterator[Connections]:
    """Hear of every connection that is opened inside this scope; those that outlive it are put into `shared`."""
    global _hooked  # noqa: PLW0603 - a hook can be added once and never be taken away
    if not _hooked:
        _hooked = True
        sys.addaudithook(_hear)
    connections = Connections(shared)
    _runs.append(connections)
    try:
        yield connections
    finally:
        _runs.remove(connections)
