"""The connections that a test opens, found by Python's own audit event, however they are opened.

``sqlite3`` reports each connection it has made (``sqlite3.connect/handle``). Connections can't be referenced weakly, so
they are kept; one that nothing else refers to is closed and dropped at the next check, which is before the next one is
opened. So code that leaves closing to the garbage collector behaves as usual.

At the end of a run its frames, fixtures and cycles are gone. A connection that is still referred to then is kept by the
program on purpose (in a module, a pool, a thread): it stays open, and counts as *shared* from then on, like those of
fixtures with a wider scope. A connection that only a cycle referred to was left open by the run, and is closed.

An audit hook can't be removed. It is added once, when the first test is about to run under faults, and does nothing
outside such a run. Other bindings do not report their connections: for those only the open databases are known, and
whether one has begun to write there (`transactions.elsewhere`).
"""

import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.pytest_plugin.rerun.transactions import elsewhere, has_transaction, put_right

# The program may keep so many connections before the oldest unclosed ones are treated as a leak.
MOST_KEPT: Final = 100


class Shared:
    """Connections that outlive a run: those of fixtures with a wider scope, and those that the program keeps."""

    def __init__(self) -> None:
        self.of_fixtures: list[sqlite3.Connection] = []
        self.kept: list[sqlite3.Connection] = []

    def __iter__(self) -> Iterator[sqlite3.Connection]:
        yield from (*self.of_fixtures, *self.kept)

    def forget_closed(self) -> None:
        """Drop those that have been closed."""
        self.of_fixtures[:] = filter(is_open, self.of_fixtures)
        self.kept[:] = filter(is_open, self.kept)

    def close_oldest(self) -> int:
        """Close the excess of kept connections, the oldest first; return how many."""
        too_many = self.kept[: max(len(self.kept) - MOST_KEPT, 0)]
        for connection in too_many:
            close(connection)
        return len(too_many)

    def close_below(self, directory: str) -> None:
        """Close those on files of a removed directory: they can't be used any more."""
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
        # Transactions begun before this run do not belong to it.
        self._busy_before = {id(connection) for connection in self._before if has_transaction(connection)}
        self._busy_elsewhere_before = set(elsewhere())

    def opened(self, connection: sqlite3.Connection) -> None:
        """Keep one."""
        (self.shared.of_fixtures if self._is_sharing else self.own).append(connection)

    @contextlib.contextmanager
    def sharing_all(self) -> Iterator[None]:
        """Connections opened inside this scope are shared: a fixture that outlives the run is being set up."""
        outer, self._is_sharing = self._is_sharing, True
        try:
            yield
        finally:
            self._is_sharing = outer

    def let_go(self) -> int:
        """Close those that nothing else refers to; return how many of them were open."""
        closed = 0
        if any(sys.getrefcount(connection) <= _ONLY_HERE for connection in self.own):
            kept = []
            while self.own:
                connection = self.own.pop()
                # The list no longer holds it: one reference less than above.
                if sys.getrefcount(connection) < _ONLY_HERE:
                    closed += is_open(connection)
                    close(connection)
                else:
                    kept.append(connection)
            self.own = kept[::-1]
        return closed

    def in_transaction(self) -> list[sqlite3.Connection | str]:
        """Those with an open transaction; for other bindings the databases."""
        self.let_go()
        mine = (connection for connection in (*self.own, *self.shared) if has_transaction(connection))
        return [*mine, *elsewhere()]

    def left_in_transaction(self) -> list[sqlite3.Connection | str]:
        """Those with an open transaction that was not open when the run began."""
        before = self._busy_before, self._busy_elsewhere_before
        return [one for one in self.in_transaction() if id(one) not in before[0] and one not in before[1]]

    def databases(self) -> set[str]:
        """The files of those that outlive the run."""
        return {name for name in map(file_of, self.shared) if os.sep in name}

    def collect(self) -> int:
        """Close those that only cycles of the run refer to; return how many of them were open."""
        self.let_go()
        if not any(map(is_open, self.own)):
            return 0
        with quiet():
            gc.collect()
            return self.let_go()

    def end(self, *, is_faulted: bool) -> int:
        """End the run: the program keeps what is open now; return how many of these were closed as too many.

        After a fault, transactions that were begun in this run and are still open on kept connections are rolled back:
        the next run begins like this one.
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
        """Whether, after `end`, other connections outlive the run than before it."""
        return [id(one) for one in self._before] != [id(one) for one in self.shared]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings about objects dropped inside this scope: they were left behind because a fault cut a run short.

    Otherwise they would be taken for warnings of the next run.
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
    # The references that a loop over a list holds, and those of a connection to itself, differ between Python versions.
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
    """Close it, bypassing every subclass; one that belongs to another thread stays open."""
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
_shared = pytest.StashKey[Shared]()


def shared_of(config: pytest.Config) -> Shared:
    """The connections that outlive the tests of this session of pytest."""
    return config.stash.setdefault(_shared, Shared())


def current() -> Connections | None:
    """Those of the run that is on, None outside of a run."""
    return _runs[-1] if _runs else None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    # Only Python's own binding is known by its events; another one may use the same library.
    if _runs and event.startswith("sqlite3.connect"):
        if event == "sqlite3.connect":
            _runs[-1].let_go()
        elif event == "sqlite3.connect/handle" and isinstance(arguments[0], sqlite3.Connection):
            _runs[-1].opened(arguments[0])


@contextlib.contextmanager
def tracked(shared: Shared) -> Iterator[Connections]:
    """Record every connection that is opened inside this scope; those that outlive it are added to `shared`."""
    global _hooked  # noqa: PLW0603 - a hook can be added once and never be removed
    if not _hooked:
        _hooked = True
        sys.addaudithook(_hear)
    connections = Connections(shared)
    _runs.append(connections)
    try:
        yield connections
    finally:
        _runs.remove(connections)
