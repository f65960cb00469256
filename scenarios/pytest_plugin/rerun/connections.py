"""The connections that a test opens, found by Python's own audit event, however they are opened.

``sqlite3`` tells of each connection it has made (``sqlite3.connect/handle``). Connections can't be referenced weakly,
so they are kept; one that nothing else refers to any more is closed and let go of at the next look, which is before
the next one is opened. So code that leaves the closing to the garbage collector behaves as it would.

At the end of a run its frames, fixtures and cycles are gone. A connection that is still referred to then is one that
the program keeps on purpose (in a module, a pool, a thread): it stays open, and counts as *shared* from then on, like
those of fixtures with a wider scope. What only a cycle referred to was left open by the run, and is closed.

An audit hook can't be taken away again. It is added once, when the first test is about to be run under faults, and
does nothing outside of such a run. Other bindings do not tell of their connections: of those it is known which
databases they have open, and whether one has begun to write there (`transactions.elsewhere`).
"""

import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Final

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.pytest_plugin.rerun.transactions import elsewhere, has_transaction, put_right

# So many connections may be kept by the program before the oldest ones, which nobody closes, are taken for a leak.
MOST_KEPT: Final = 100


class Shared:
    """Connections that outlive a run: those of fixtures with a wider scope, and those that the program keeps."""

    def __init__(self) -> None:
        self.of_fixtures: list[sqlite3.Connection] = []
        self.kept: list[sqlite3.Connection] = []

    def __iter__(self) -> Iterator[sqlite3.Connection]:
        yield from (*self.of_fixtures, *self.kept)

    def forget_closed(self) -> None:
        """Hold no more of those that have been closed."""
        self.of_fixtures[:] = filter(is_open, self.of_fixtures)
        self.kept[:] = filter(is_open, self.kept)

    def close_oldest(self) -> int:
        """Close those that are too many to be kept on purpose; how many."""
        too_many = self.kept[: max(len(self.kept) - MOST_KEPT, 0)]
        for connection in too_many:
            close(connection)
        return len(too_many)

    def close_below(self, directory: str) -> None:
        """Close those on files of a directory that has been removed: none of these can be of any use."""
        for connection in self.kept:
            if file_of(connection).startswith(directory + os.sep):
                close(connection)
        self.forget_closed()


class Connections:
    """The connections of one run: `own` are the test's, `shared` those that outlive it."""

    def __init__(self, shared: Shared) -> None:
        self.own: list[sqlite3.Connection] = []
        self.shared = shared
        self._is_sharing = False
        self._before = list(shared)
        # What others have begun before this run is no business of its own.
        self._busy_before = {id(connection) for connection in self._before if has_transaction(connection)}
        self._busy_elsewhere_before = set(elsewhere())

    def opened(self, connection: sqlite3.Connection) -> None:
        """Keep one."""
        (self.shared.of_fixtures if self._is_sharing else self.own).append(connection)

    @contextlib.contextmanager
    def sharing_all(self) -> Iterator[None]:
        """What is opened inside this scope is shared: a fixture that outlives the run is being set up."""
        outer, self._is_sharing = self._is_sharing, True
        try:
            yield
        finally:
            self._is_sharing = outer

    def let_go(self) -> int:
        """Close those that nothing else refers to; how many of them were open."""
        closed = 0
        if any(sys.getrefcount(connection) <= _ONLY_HERE for connection in self.own):
            kept = []
            while self.own:
                connection = self.own.pop()
                # The list has let go of it: one reference less than above.
                if sys.getrefcount(connection) < _ONLY_HERE:
                    closed += is_open(connection)
                    close(connection)
                else:
                    kept.append(connection)
            self.own = kept[::-1]
        return closed

    def in_transaction(self) -> list[sqlite3.Connection | str]:
        """Those with a transaction that is open; of other bindings' the databases."""
        self.let_go()
        mine = (connection for connection in (*self.own, *self.shared) if has_transaction(connection))
        return [*mine, *elsewhere()]

    def left_in_transaction(self) -> list[sqlite3.Connection | str]:
        """Those with a transaction that is open and was not when the run began."""
        before = self._busy_before, self._busy_elsewhere_before
        return [one for one in self.in_transaction() if id(one) not in before[0] and one not in before[1]]

    def databases(self) -> set[str]:
        """The files of those that outlive the run."""
        return {name for name in map(file_of, self.shared) if os.sep in name}

    def collect(self) -> int:
        """Close what nothing but cycles of the run refers to; how many of them were open."""
        self.let_go()
        if not any(map(is_open, self.own)):
            return 0
        with quiet():
            gc.collect()
            return self.let_go()

    def end(self, *, is_faulted: bool) -> int:
        """The run is over: what is open now is kept by the program; how many of these are closed as too many.

        After a fault, transactions that were begun in this run and are still open on what is kept are rolled back: the
        next run begins as this one did.
        """
        self.let_go()
        self.shared.kept += filter(is_open, self.own)
        self.own.clear()
        closed = self.shared.close_oldest()
        self.shared.forget_closed()
        if is_faulted:
            for connection in self.shared:
                put_right(connection, may_roll_back=id(connection) not in self._busy_before)
        return closed

    @property
    def have_changed(self) -> bool:
        """Whether, after `end`, others outlive the run than those that were there before it."""
        return [id(one) for one in self._before] != [id(one) for one in self.shared]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let nothing be said of what is thrown away inside this scope: it was left behind because a fault cut a run short.

    Said aloud, it would be taken for something that the next run has done.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook


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


def close(connection: sqlite3.Connection) -> None:
    """Close it past every subclass; one that belongs to another thread stays as it is."""
    with contextlib.suppress(sqlite3.Error):
        sqlite3.Connection.close(connection)


def file_of(connection: sqlite3.Connection | str) -> str:
    """The main database's file, for people."""
    if isinstance(connection, str):
        return connection
    try:
        rows = sqlite3.Cursor(connection).execute("PRAGMA database_list").fetchall()
    except sqlite3.Error:
        return "a database"
    return next((str(row[2]) for row in rows if row[1] == "main" and row[2]), "a database in memory")


_runs: list[Connections] = []
_hooked = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    # Only Python's own binding is known by its events; another one may use the same.
    if _runs and event.startswith("sqlite3.connect"):
        if event == "sqlite3.connect":
            _runs[-1].let_go()
        elif event == "sqlite3.connect/handle" and isinstance(arguments[0], sqlite3.Connection):
            _runs[-1].opened(arguments[0])


@contextlib.contextmanager
def tracked(shared: Shared) -> Iterator[Connections]:
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
