"""Small stores of their own, for defects that the reference has no place for; each with a sound twin.

A store is a class that is made with a path and a clock. Its view is every row of its tables; every call that is not one
statement is one transaction.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration, Environment, Target, View


class SmallStore:
    """One connection; `schema` makes the tables."""

    schema: ClassVar[tuple[str, ...]] = ()
    # Whether the threads of one process may call the same store.
    is_shared: ClassVar[bool] = False

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=not self.is_shared)
        try:
            self.db.execute("PRAGMA journal_mode = WAL").fetchall()
            for statement in self.schema:
                self.db.execute(statement)
        except BaseException:
            self.db.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the write lock from its beginning, and leaves nothing behind that fails."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def tick(self, name: str) -> None:
        """A small change."""
        self.db.execute("INSERT OR REPLACE INTO tick VALUES (?, 1)", (name,))

    def view(self) -> View:
        """What the store answers."""
        return rows_of(self.db)

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()


def rows_of(connection: sqlite3.Connection) -> View:
    """Every row of every table, by its rowid."""
    view: dict[str, Any] = {}
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    for (table,) in tables:
        for number, *row in connection.execute(f"SELECT rowid, * FROM {table}").fetchall():  # noqa: S608 - a table's name
            view[f"{table}/{number}"] = row
    return view


class SmallTarget(SimpleTarget):
    """Target: such a store, by its class."""

    unpromised: Mapping[str, str] = {"waits-for-a-short-lock": "WAL on a new file waits for no lock"}
    beat = Action("tick", {"name": "heartbeat"})

    def __init__(
        self,
        name: str,
        store: type[SmallStore],
        calls: tuple[Action, ...],
        callers: tuple[Callers, ...] = ("processes", "threads"),
        refuses: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.title = (store.__doc__ or store.__name__).splitlines()[0]
        self.calls = calls
        self.callers = callers
        self.refuses = refuses
        self._store = store

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> SmallStore:  # noqa: ARG002
        """Open the store."""
        return self._store(path, environment.clock)

    def view(self, store: SmallStore) -> View:
        """What the store answers."""
        return store.view()

    def rows(self, connection: sqlite3.Connection) -> View:
        """What its tables hold."""
        return rows_of(connection)


def build(
    store: type[SmallStore],
    calls: tuple[Action, ...],
    callers: tuple[Callers, ...] = ("processes", "threads"),
    refuses: frozenset[str] = frozenset(),
) -> Callable[[str], Target]:
    """What makes the target of a store by its name."""
    return lambda name: SmallTarget(name, store, calls, callers, refuses)
