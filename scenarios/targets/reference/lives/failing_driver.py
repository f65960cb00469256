"""A driver of SQLite that fails at chosen statements, or lets something else happen just before one.

Statements fail whole: torn writes, power cuts and locks are covered by the searches. Nothing is synced, since thousands
of syncs take long on a disk: the level of synchronous is kept here, by SQLite's rules, and not in the connection.
"""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final

HOWS: Final = ("before", "busy", "undone", "after")
"""A statement fails before its work, with an I/O error or since the database is locked; with its transaction rolled
back, as SQLite does after some errors; or, a COMMIT only, after its work."""
INTERRUPTS: Final = ("interrupt", "interrupt after")
"""Ctrl-C comes before the work of a statement, or after it."""
BUSY: Final = 5
_IOERR: Final = 10
_ASKED: Final = "PRAGMA synchronous"
_LEVELS: Final = ("off", "normal", "full", "extra")


class Error(Exception):
    """The base of another driver's errors; the drivers share only its name."""


class _ForeignError(Error):
    """An error of a driver that is not Python's own."""


class Driver:
    """Opens connections whose statements are counted since the last `arm`, from 1; to open one counts, too."""

    def __init__(self) -> None:
        self._faults: Mapping[int, str] = {}
        self._count: int | None = None
        self._meanwhile: Callable[[], object] | None = None
        # The numbers of the faults that have come.
        self.fired: set[int] = set()
        # Of each COMMIT: the statement before it, and the level of synchronous.
        self.commits: list[tuple[str, int]] = []
        # Whether a COMMIT has failed of which only a look at the rows shows whether it was made.
        self.is_ambiguous = False
        # Whether its errors are those of another driver than Python's own.
        self.is_foreign = False
        # How many connections were opened.
        self.opened = 0
        # How many switches of the journal mode still find the database locked.
        self.locked_switches = 0
        # The beginnings of statements that fail until further notice, and how.
        self.failing: Mapping[str, str] = {}
        # How long each TRUNCATE checkpoint may have waited for others, in milliseconds.
        self.waits_of_truncates: list[int] = []

    def arm(self, faults: Mapping[int, str], meanwhile: Callable[[], object] | None = None) -> None:
        """From now on these statements fail; a fault named ``meanwhile`` makes that call instead."""
        self._faults, self._count, self._meanwhile, self.fired = faults, 0, meanwhile, set()
        self.is_ambiguous = False

    def disarm(self) -> None:
        """From now on nothing fails."""
        self._count = None

    def __call__(self, place: str, **how: Any) -> Any:
        """Open a connection, as sqlite3 does."""
        how_it_fails = self.due("connect", in_transaction=False)
        if how_it_fails is not None:
            raise KeyboardInterrupt if how_it_fails in INTERRUPTS else self.error("before")
        self.opened += 1
        return _Connection(sqlite3.connect(place, **how), self)

    def error(self, how: str) -> Exception:
        """The error of a statement that fails in this way."""
        code, name, text = (
            (BUSY, "SQLITE_BUSY", "database is locked") if how == "busy" else (_IOERR, "SQLITE_IOERR", "disk I/O error")
        )
        error: Any = _ForeignError(text) if self.is_foreign else sqlite3.OperationalError(text)
        error.sqlite_errorcode, error.sqlite_errorname = code, name
        return error  # type: ignore[no-any-return] # its codes are no attributes of the class

    def due(self, statement: str, *, in_transaction: bool) -> str | None:
        """How this statement fails; None if it doesn't, or can't in that way."""
        for beginning, how_it_fails in self.failing.items():
            if statement.startswith(beginning):
                return how_it_fails
        if self._count is None:
            return None
        self._count += 1
        number, how = self._count, self._faults.get(self._count)
        if how is None or (how == "after" and statement != "COMMIT") or (how == "undone" and not in_transaction):
            return None
        self.fired.add(number)
        self.is_ambiguous = self.is_ambiguous or (statement == "COMMIT" and how != "busy")
        if how == "meanwhile" and self._meanwhile is not None:
            self._meanwhile()
            return None
        return how


class _Connection:
    """A connection of sqlite3, whose statements may fail."""

    def __init__(self, connection: sqlite3.Connection, driver: Driver) -> None:
        self._connection, self._driver = connection, driver
        self._last, self._level = "", _LEVELS.index("full")
        connection.execute("PRAGMA synchronous = off")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, parameters: Any = ()) -> Any:
        """Execute a statement, or fail."""
        connection = self._connection
        if statement.startswith("PRAGMA journal_mode =") and self._driver.locked_switches > 0:
            self._driver.locked_switches -= 1
            raise self._driver.error("busy")
        how = self._driver.due(statement, in_transaction=connection.in_transaction)
        if how == "undone":
            connection.execute("ROLLBACK")
        if how in ("before", "busy", "undone"):
            raise self._driver.error(how)
        if statement == "PRAGMA wal_checkpoint(TRUNCATE)":
            self._driver.waits_of_truncates += connection.execute("PRAGMA busy_timeout").fetchone()
        if statement == "COMMIT":
            self._driver.commits.append((self._last, self._level))
        if statement.startswith(_ASKED):
            return self._leveled(statement)
        if how == "interrupt":
            raise KeyboardInterrupt
        done = connection.execute(statement, parameters)
        self._last = statement
        if how == "after":
            raise self._driver.error(how)
        if how == "interrupt after":
            # The traceback would keep the cursor, and that the read.
            del done
            raise KeyboardInterrupt
        return done

    def _leveled(self, statement: str) -> sqlite3.Cursor:
        """The answer of SQLite to a question about the level, or a change of it."""
        wanted = statement.removeprefix(_ASKED).strip(" =")
        if not wanted:
            return self._connection.execute("SELECT ?", (self._level,))
        if self._connection.in_transaction:
            raise sqlite3.OperationalError("Safety level may not be changed inside a transaction")
        self._level = int(wanted) if wanted.isdigit() else _LEVELS.index(wanted)
        return self._connection.execute("SELECT 1 WHERE 0")
