"""The database: its connection, its transactions, and its recovery after a fault.

All connections come from the `connect` function that the caller passes, so that a test can inject faults beneath it.
There is one connection for work; settling a failed COMMIT opens a second one for a moment. `ledger.disk.connections`
opens the connections.

All statements go through ``connection.execute``, transactions included (``isolation_level=None``). Drivers other than
`sqlite3` work if they implement the DB-API with SQLite's ``in_transaction``.

Not covered: `fork` while a database is open, network file systems, and a database that is deleted or replaced while it
is open.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tornpage.ledger.disk.connections import (
    BUSY,
    DEFAULT_BUSY_TIMEOUT_MS,
    Connect,
    Durability,
    Settings,
    bare_connection,
    close_quietly,
    durability,
    in_transaction,
    journal_mode,
    open_connection,
    settings_for,
    synchronous,
)
from tornpage.ledger.disk.rows import Quarantined, RecordTable, Row, Table, chunks, fetch
from tornpage.ledger.disk.schema import FENCE
from tornpage.ledger.disk.transaction import Found, Settlement, TouchedRow, Transaction, judge, unavailable
from tornpage.ledger.errors import (
    StoreBusy,
    StoreError,
    StoreUnavailable,
    UsageError,
    from_sqlite,
    is_database_error,
    primary_code,
)

_log = logging.getLogger("ledger.database")

Records = tuple[list[Any], list[Quarantined]]
"""The contents of a table: the readable rows as records, and the quarantined others."""


class Database:
    """An open database; `open` makes one. Safe to share between threads: every entry takes `lock`."""

    def __init__(self, settings: Settings) -> None:
        self.path: Final = settings.path
        self.in_memory: Final = settings.in_memory
        self.lock: Final = threading.RLock()
        self.fence_owed = False
        self.fence_error: Exception | None = None
        self.generation = 0
        self.active: Transaction | None = None
        self._settings = settings
        self._suspect: str | None = None
        self._closed = False
        self._connection: Any = open_connection(settings, check_content=True)

    @classmethod
    def open(
        cls,
        state_dir: Path | str,
        *,
        journal_mode: str | None = None,
        synchronous: str | None = None,
        busy_timeout_ms: int = DEFAULT_BUSY_TIMEOUT_MS,
        connect: Connect = sqlite3.connect,
    ) -> "Database":
        """Open (and create, if necessary) the database in a directory, or in memory for ``:memory:``.

        Without a journal mode an existing file keeps its own, and a new one gets WAL.

        Raises `UsageError` for an unknown mode or level, and a `StoreError` that describes the problem of the file.
        """
        return cls(
            settings_for(
                state_dir,
                journal_mode=journal_mode,
                synchronous=synchronous,
                busy_timeout_ms=busy_timeout_ms,
                connect=connect,
            )
        )

    # The connection

    @property
    def connection(self) -> Any:
        """The connection for work. Raises `StoreUnavailable` if there is none."""
        if self._connection is None:
            raise StoreUnavailable("the ledger is closed" if self._closed else "the database connection was given up")
        return self._connection

    @property
    def journal_mode(self) -> str:
        """The file's journal mode. It is queried each time, since others may switch an unused file."""
        with self.lock:
            return self._asking(journal_mode)

    @property
    def durability(self) -> Durability:
        """The durability of acknowledged changes. Raises `StoreError` if the query fails."""
        with self.lock:
            self.ensure_usable()
            return durability(self.journal_mode, self._asking(synchronous))

    def _asking(self, question: Callable[[Any], str]) -> str:
        try:
            return question(self.connection)
        except Exception as error:
            if is_database_error(error):
                raise from_sqlite(error, doing="ask how the database is opened") from error
            raise

    def discard_connection(self) -> None:
        """Close the connection; the next use opens another. A database in memory is lost with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close_quietly(connection)

    # Transactions

    def transaction(self) -> Transaction:
        """A write transaction to enter with ``with``; inside another one it joins that.

        Raises, when entered, `StoreBusy` and the like with outcome ``unchanged``.
        """
        with self.lock:
            return self.active if self.active is not None else Transaction(self)

    def begin(self, transaction: Transaction) -> Any:
        """Take the lock, begin, and return the connection; only `Transaction` calls this."""
        self.lock.acquire()
        try:
            if self._connection is None or self._suspect is not None or self.fence_owed or self._closed:
                self.ensure_usable()
            connection = self.connection
            if connection.in_transaction:
                # An interrupt between BEGIN and the with-block has left it open.
                self.abandon()
                connection = self._reconnected()
            connection.execute("BEGIN IMMEDIATE")
            self.active = transaction
        except BaseException as error:
            try:
                self.abandon()
            finally:
                self.lock.release()
            if is_database_error(error):
                raise from_sqlite(error, doing="begin a transaction") from error
            raise
        return connection

    def end(self) -> None:
        """Release the lock; only `Transaction` calls this, whatever happened before."""
        self.active = None
        self.lock.release()

    def abandon(self) -> bool:
        """Roll back an open transaction; returns whether one was open and is rolled back now.

        After some errors SQLite itself ends the transaction; a ROLLBACK would then raise and hide the cause. A
        connection that can't roll back is closed, which rolls back.
        """
        connection = self._connection
        if connection is None or not in_transaction(connection):
            return False
        try:
            connection.execute("ROLLBACK")
        except Exception as error:  # noqa: BLE001 - any driver's error; the state is asked for below.
            _log.warning("ROLLBACK failed: %s", str(error))
        finally:
            still_open = in_transaction(connection)
            if still_open:
                self.discard_connection()
        return not still_open

    def settle(self, changed: Sequence[TouchedRow], error: BaseException) -> Settlement:
        """Determine the effect of a COMMIT that raised `error`, and secure it; see `ledger.disk.transaction`."""
        # Until the end of this method memory is in doubt, whatever interrupts it.
        self._suspect = str(error) or type(error).__name__
        owed_before, self.fence_owed = self.fence_owed, True
        rolled_back = self.abandon()
        # In a rollback mode BUSY means that the exclusive lock was never acquired: no byte of the file was written, and
        # the rolled-back change can't reappear. A fence would only wait for the same lock once more.
        ghost_free = rolled_back and primary_code(error) == BUSY and self._in_rollback_mode()
        try:
            found: Found | None = self._read_again(changed)
        except Exception as failure:  # noqa: BLE001 - any driver's error.
            _log.error("rows could not be read again after a failed COMMIT (%s): %s", str(error), str(failure))
            return judge(changed, None, fenced=False)
        if ghost_free:
            self.fence_owed = owed_before
        fenced = ghost_free or self.lay_fence()
        self._suspect = None
        return judge(changed, found, fenced=fenced)

    def _in_rollback_mode(self) -> bool:
        try:
            return self.journal_mode != "wal"
        except StoreError:  # no fault: the mode is known from the connection, unless another driver forgets it.
            return False

    def _read_again(self, changed: Sequence[TouchedRow]) -> Found:
        connection = self.connection if self.in_memory else bare_connection(self._settings)
        try:
            connection.execute("BEGIN")
            found: dict[tuple[str, str], Row | None] = {}
            for one in changed:
                rows = fetch(connection, one.table.select_one, (one.key,))
                found[one.table.name, one.key] = rows[0] if rows else None
            connection.execute("ROLLBACK")
        finally:
            if not self.in_memory:
                close_quietly(connection)
        return found

    def lay_fence(self, *, patient: bool = True) -> bool:
        """Make one small writing commit that secures the state after a failed COMMIT; returns whether it was made.

        Unless `patient`, it doesn't wait for another process's lock.
        """
        self.fence_owed = True
        try:
            connection = self._reconnected()
            if not patient:
                connection.execute("PRAGMA busy_timeout = 0")
            with self._synced(connection):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(FENCE)
                connection.execute("COMMIT")
            self.fence_owed, self.fence_error = False, None
        except Exception as error:  # noqa: BLE001 - any driver's error; the debt is kept.
            self.fence_error = error
            _log.warning("a fencing commit could not be made yet: %s", str(error))
        finally:
            self.abandon()
            if not patient and self._connection is not None:
                with contextlib.suppress(Exception):
                    self._connection.execute(f"PRAGMA busy_timeout = {self._settings.busy_timeout_ms}")
        return not self.fence_owed

    @contextlib.contextmanager
    def _synced(self, connection: Any) -> Iterator[None]:
        """At NORMAL a commit is not synced; inside this scope it is, so that a power cut can't lose only the fence."""
        if synchronous(connection) != "normal":
            yield
            return
        connection.execute("PRAGMA synchronous = full")
        try:
            yield
        finally:
            # The level can't be changed inside an open transaction.
            self.abandon()
            if self._connection is connection:
                self._lower_again(connection)

    def _lower_again(self, connection: Any) -> None:
        try:
            connection.execute("PRAGMA synchronous = normal")
        except BaseException:
            # The next connection is configured again, at the chosen level.
            if not self.in_memory:
                self.discard_connection()
            raise

    # Health

    def ensure_usable(self) -> None:
        """Recover from an earlier fault; called first by every read and write.

        Raises `StoreUnavailable` if the database is closed or can't be recovered yet. After a recovery, `version`
        differs, so that every reader reloads.
        """
        if self._closed:
            raise StoreUnavailable("the ledger is closed")
        if self._suspect is None and self._connection is not None and not self.fence_owed:
            return
        if self.active is not None:
            return
        if self._suspect is not None and not self.in_memory:
            self.discard_connection()
        self._reconnected()
        if self._suspect is not None:
            self._suspect = None
            self.generation += 1
        if self.fence_owed:
            self.lay_fence(patient=False)

    def _reconnected(self) -> Any:
        if self._connection is not None:
            return self._connection
        if self.in_memory:
            raise StoreUnavailable("the database in memory was lost with its connection")
        try:
            self._connection = open_connection(self._settings, check_content=False)
        except StoreError as error:
            because = f"; it is suspect after: {self._suspect}" if self._suspect is not None else ""
            raise unavailable(f"the database could not be opened again: {error}{because}", error) from error
        self.generation += 1
        return self._connection

    # Reading

    def version(self) -> tuple[int, int]:
        """Changes when another connection has committed, and after a recovery; compare for equality only."""
        rows = self._run(self.connection, "PRAGMA data_version", doing="look for other processes' changes")
        return self.generation, rows[0][0]

    def select(self, table: Table, where: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows from disk, in insertion order; inside a transaction as the transaction sees them."""
        with self.reading() as connection:
            return fetch(connection, table.matching(where), parameters)

    def read_tables(self, tables: Sequence[Table]) -> tuple[tuple[int, int], list[list[Row]]]:
        """All rows of some tables as of one moment, and the `version` of that moment."""
        with self.reading() as connection:
            rows = [fetch(connection, table.select_all) for table in tables]
            return self.version(), rows

    def read_records(self, tables: Sequence[RecordTable[Any]]) -> tuple[tuple[int, int], list[Records]]:
        """All records of some tables as of one moment, and the `version` of that moment."""
        with self.reading() as connection:
            read = [table.decode_chunks(chunks(connection, table.select_all)) for table in tables]
            return self.version(), read

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """The connection in a read transaction, with the lock held; write nothing through it.

        Inside a transaction it sees that transaction's changes. A failed read there dooms it, since SQLite itself may
        have ended the transaction. Raises `StoreError`.
        """
        with self.lock:
            self.ensure_usable()
            if self.active is not None:
                self.active.refuse_doomed()
            connection = self.connection
            try:
                with self._read_transaction(connection):
                    yield connection
            except BaseException as error:
                failure = from_sqlite(error, doing="read the ledger") if is_database_error(error) else error
                if self.active is None:
                    self.abandon()
                elif isinstance(failure, StoreError):
                    self.active.doom(failure)
                    self.abandon()
                if failure is not error:
                    raise failure from error
                raise

    @contextlib.contextmanager
    def _read_transaction(self, connection: Any) -> Iterator[None]:
        if self.active is not None:
            yield
            return
        connection.execute("BEGIN")
        yield
        connection.execute("ROLLBACK")

    def _run(self, connection: Any, statement: str, parameters: Sequence[Any] = (), *, doing: str) -> list[Row]:
        try:
            return fetch(connection, statement, parameters)
        except Exception as error:
            if is_database_error(error):
                raise from_sqlite(error, doing=doing) from error
            raise

    # The end

    def checkpoint(self, kind: str = "PASSIVE") -> bool:
        """Copy the WAL into the database, as far as other connections allow; returns whether all of it was copied."""
        with self.lock:
            if self.journal_mode != "wal":
                return True
            rows = self._run(self.connection, f"PRAGMA wal_checkpoint({kind})", doing="checkpoint")
            return bool(rows[0][0] == 0 and rows[0][1] == rows[0][2])

    def close(self) -> None:
        """Make a pending fence, truncate the WAL and close the file. Never raises a store error; may be called twice.

        Does not wait: a WAL that another connection still reads stays until the next close.
        """
        with self.lock:
            if self._closed:
                return
            if self.active is not None:
                raise UsageError("the ledger can't be closed inside a batch")
            try:
                self.ensure_usable()
                self._run(self.connection, "PRAGMA busy_timeout = 0", doing="stop waiting for others")
                if not self.checkpoint("TRUNCATE"):
                    _log.info("the WAL stays until the next close: another connection uses it")
            except StoreBusy as error:  # no fault: only a fence that is owed waits here, and each look has laid it.
                _log.info("the WAL stays until the next close: %s", str(error))
            except StoreError as error:
                _log.warning("while closing: %s", str(error))
            finally:
                self._closed = True
                self.discard_connection()
