"""The watched connection and cursor: each classifies a statement, asks the injectors, and carries out their decision.

A statement passes; or the *real* connection is put into the state in which SQLite would leave it, and the exception is
raised that ``sqlite3`` would raise. Four kinds of operation:

- ``begin``: a BEGIN outside a transaction, including Python's implicit one. A deferred BEGIN touches no file: only
  NOMEM and KILL match it, while the other effects match only a BEGIN that takes a lock (IMMEDIATE, EXCLUSIVE);
- ``statement``: any other statement inside a transaction; each row of an ``executemany`` is one. ``statement=BUSY``
  matches only one that takes a lock: the first that reads or writes after a deferred BEGIN, and the first that writes;
  ``statement=BUSY_SNAPSHOT`` only the first that writes after another one, and only with a log;
- ``commit``: COMMIT and END inside a transaction, ``commit()``, the end of a ``with``; and a writing statement outside
  a transaction, which is a transaction of its own. ``commit/after`` matches only if the main database has a rollback
  journal: in WAL mode the changes of a COMMIT that raised are never visible to live connections. ``commit=BUSY``
  matches where a COMMIT takes a lock: with a rollback journal, unless BEGIN EXCLUSIVE has taken it already, and in a
  writing statement outside a transaction;
- ``rollback``: ROLLBACK (not ``ROLLBACK TO``) inside a transaction, ``rollback()``, the failed end of a ``with``.

After IOERR, FULL and NOMEM in a statement or a COMMIT, and INTERRUPT in a writing statement, the transaction has really
been rolled back; after all other errors it is still open. A script is split with ``sqlite3.complete_statement``; the
injectors are asked before each statement. Python's COMMIT before a script is a ``commit``.

Not covered: fetching rows, ``backup``, ``blobopen`` and ``deserialize``; cursors that
``sqlite3.Cursor(connection)`` makes; the RELEASE that ends a transaction opened by a SAVEPOINT (it is a
``statement``); a writing PRAGMA outside a transaction; the BEGIN that ``autocommit=False`` puts behind each COMMIT
and at the opening of a connection.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from tornpage.faults.injector import BEGIN_LOCK, COMMIT_END, COMMIT_LOCK, STATEMENT_LOCK, STATEMENT_RISE
from tornpage.faults.plan import KILL, Fault
from tornpage.faults.result_codes import die, rolls_back
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.statement.sql import (
    begin_takes_locks,
    certainly_writes,
    leading_words,
    opens_implicitly,
    split_script,
    transaction_kind,
)

# They name a place in a transaction, and what comes after it takes the locks.
_TAKE_NO_LOCK: Final = (("SAVEPOINT",), ("RELEASE",), ("ROLLBACK",))
_ROLLBACK_JOURNALS: Final = frozenset({b"delete", b"truncate", b"persist"})


class Ruling(NamedTuple):
    """A watcher's decision: the fault, and the exception that reports it."""

    fault: Fault
    error: BaseException


class Depth(Protocol):
    """The interface that a watched connection asks."""

    module: ModuleType
    kinds: frozenset[str]
    # The watched subclass of the module's own cursor class.
    own_cursor_class: Any

    def ask(self, kind: str, path: str | None = None) -> Ruling | None:
        """The first watcher's fault for this operation, or None to let it pass."""

    def cursor_class(self, base: Any = None) -> Any:
        """The watched subclass of a cursor class."""


if TYPE_CHECKING:
    _ConnectionBase = sqlite3.Connection
    _CursorBase = sqlite3.Cursor
else:
    # The real base comes second in the classes that `StatementDepth` makes.
    _ConnectionBase = _CursorBase = object


class WatchedConnection(_ConnectionBase):
    """The mixin over ``sqlite3.Connection``; its own names begin with ``fault`` to avoid a subclass's names."""

    fault_depth: Depth
    _fault_file: str | None = None
    # Whether the transaction began with BEGIN EXCLUSIVE.
    _fault_holds_all = False
    # Whether the transaction is known to hold a lock for reading, and one for writing.
    _fault_has_read = False
    _fault_has_written = False

    # -- the connection's interface ------------------------------------------------------------------------

    def cursor(self, factory: Any = None) -> Any:
        """A watched cursor; `factory` must be a class."""
        depth = self.fault_depth
        # A hot path: each `execute` of a connection creates a cursor.
        return super().cursor(depth.own_cursor_class if factory is None else depth.cursor_class(factory))

    def execute(self, *args: Any) -> Any:
        """As ``Cursor.execute``."""
        return self._fault_on_cursor("execute", args)

    def executemany(self, *args: Any) -> Any:
        """As ``Cursor.executemany``."""
        return self._fault_on_cursor("executemany", args)

    def executescript(self, *args: Any) -> Any:
        """As ``Cursor.executescript``."""
        return self._fault_on_cursor("executescript", args)

    def _fault_on_cursor(self, name: str, args: tuple[Any, ...]) -> Any:
        """Run a cursor's method; if it fails, close the cursor, which only the traceback still references.

        The C method releases it there. A live cursor would keep a closed connection open, and its locks held.
        """
        cursor = self.cursor()
        try:
            return getattr(cursor, name)(*args)
        except BaseException:
            with contextlib.suppress(self.fault_depth.module.Error):
                cursor.close()
            raise

    def commit(self) -> None:
        """Commit, if a transaction is open."""
        self.fault_perform(self._fault_ending("commit"), super().commit)

    def rollback(self) -> None:
        """Roll back, if a transaction is open."""
        self.fault_perform(self._fault_ending("rollback"), super().rollback)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> Any:
        # C calls its own commit and rollback, not the methods; this is pysqlite_connection_exit_impl's shape.
        if self.fault_control() is True:
            return False
        if kind is not None or value is not None or traceback is not None:
            self.rollback()
            return False
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return False

    def _get_isolation_level(self) -> str | None:
        return super().isolation_level

    def _set_isolation_level(self, level: str | None) -> None:
        # Setting None ends legacy transaction control, and commits.
        base: Any = super(WatchedConnection, type(self)).isolation_level
        kinds = self._fault_ending("commit") if level is None else ()
        self.fault_perform(kinds, functools.partial(base.__set__, self, level))

    isolation_level = property(_get_isolation_level, _set_isolation_level)

    def _get_autocommit(self) -> Any:
        return super().autocommit  # type: ignore[misc]  # only on Python 3.12 and later, where alone it is used

    def _set_autocommit(self, control: Any) -> None:
        base: Any = super(WatchedConnection, type(self)).autocommit  # type: ignore[misc]  # as above
        kinds = ("commit",) if control is True and self.in_transaction else ()
        self.fault_perform(kinds, functools.partial(base.__set__, self, control))

    fault_autocommit = property(_get_autocommit, _set_autocommit)

    # -- classifying a statement ---------------------------------------------------------------------------

    def fault_control(self) -> bool | None:
        """Python 3.12's ``autocommit``, or None for legacy transaction control (the only one before 3.12)."""
        control = getattr(self, "autocommit", None)
        return control if isinstance(control, bool) else None

    def fault_kinds(self, sql: object, parameters: Any = (), *, script: bool = False) -> tuple[str, ...]:
        """The kinds of operation that this SQL consists of, in order."""
        if not isinstance(sql, str) or not self.fault_depth.kinds:
            return ()
        words = leading_words(sql)
        kind = transaction_kind(words)
        if self.in_transaction:
            # SQLite refuses a BEGIN inside a transaction before any fault could happen.
            return (kind,) if words and kind != "begin" else ()
        if kind == "begin":
            return ("begin", BEGIN_LOCK) if begin_takes_locks(words) else ("begin",)
        if kind != "statement":
            return ()
        if not script and self._fault_begins(sql):
            locks = begin_takes_locks(("BEGIN", str(self.isolation_level).upper()))
            return ("begin", BEGIN_LOCK, "statement") if locks else ("begin", "statement")
        return ("commit",) if self._fault_writes(sql, parameters) else ()

    def _fault_ending(self, kind: str) -> tuple[str, ...]:
        """The kind of ``commit()`` or ``rollback()``; empty outside a transaction or with autocommit=True."""
        return (kind,) if self.in_transaction and self.fault_control() is not True else ()

    def _fault_begins(self, sql: str) -> bool:
        """Whether Python implicitly begins a transaction before this statement."""
        return self.isolation_level is not None and self.fault_control() is None and opens_implicitly(sql)

    def _fault_writes(self, sql: str, parameters: Any) -> bool:
        """Whether SQLite compiles this statement into a writing one."""
        words = leading_words(sql, limit=1)
        if words != ("WITH",):
            return certainly_writes(words)
        try:
            program = self._fault_rows(f"EXPLAIN {sql}", parameters)
        except (self.fault_depth.module.Error, ValueError):
            return False  # It doesn't compile; running it will raise the error.
        return any(step[1] == b"Transaction" and step[3] > 0 for step in program)

    # -- asking and carrying out ---------------------------------------------------------------------------

    def fault_perform(self, kinds: tuple[str, ...], run: Callable[[], Any], sql: str = "", parameters: Any = ()) -> Any:
        """Ask about each kind in turn, then run it; or do the part of it that a fault allows, and raise."""
        if not self.fault_depth.kinds:
            return run()
        if not self.in_transaction:
            self._fault_has_read = self._fault_has_written = False
        if "begin" in kinds:
            words = leading_words(sql)
            explicit = transaction_kind(words) == "begin"
            self._fault_holds_all = "EXCLUSIVE" in (words if explicit else (str(self.isolation_level).upper(),))
        if BEGIN_LOCK in kinds:
            self._fault_has_read = self._fault_has_written = True
        for kind in self._fault_expanded(kinds, sql, parameters):
            ruling = self.fault_ask(kind)
            if ruling is not None:
                self._fault_carry_out(ruling, kind, kinds, run)
                self.fault_undo(ruling, kind, sql, parameters)
                raise ruling.error
        ends_a_journal = "commit" in kinds and self.fault_ends_a_journal()
        result = run()
        self.fault_took_locks(kinds, sql, parameters)
        ruling = self.fault_ask(COMMIT_END) if ends_a_journal else None
        if ruling is None:
            return result
        _finish(result)
        if self.in_transaction:
            # With autocommit=False Python begins a transaction after a COMMIT, but not after one that raises.
            self.fault_raw("ROLLBACK")
        raise ruling.error

    def _fault_expanded(self, kinds: tuple[str, ...], sql: str, parameters: Any) -> Iterator[str]:
        """The kinds, plus the lock that a COMMIT or a statement takes, after it."""
        for kind in kinds:
            yield kind
            if kind == "commit" and self.fault_commit_takes_a_lock():
                yield COMMIT_LOCK
            if kind == "statement":
                yield from self.fault_locks_of(sql, parameters)

    def fault_locks_of(self, sql: str, parameters: Any = ()) -> Iterator[str]:
        """`STATEMENT_LOCK` and `STATEMENT_RISE`, where an injector wants them and the statement takes such a lock."""
        wanted = self.fault_depth.kinds & {STATEMENT_LOCK, STATEMENT_RISE}
        if not wanted or self._fault_has_written or leading_words(sql, limit=1)[:1] in _TAKE_NO_LOCK:
            return
        writes = self._fault_writes(sql, parameters)
        if writes or not self._fault_has_read:
            yield STATEMENT_LOCK
        if writes and self._fault_has_read and not self._fault_has_a_journal():
            yield STATEMENT_RISE

    def fault_took_locks(self, kinds: tuple[str, ...], sql: str, parameters: Any = ()) -> None:
        """Remember what lock a transaction has since it ran these kinds."""
        if kinds[-1:] in (("commit",), ("rollback",)):
            self._fault_has_read = self._fault_has_written = False
        elif kinds[-1:] == ("statement",) and leading_words(sql, limit=1)[:1] not in _TAKE_NO_LOCK:
            self._fault_has_read = True
            self._fault_has_written = self._fault_has_written or self._fault_writes(sql, parameters)

    def _fault_carry_out(self, ruling: Ruling, kind: str, kinds: tuple[str, ...], run: Callable[[], Any]) -> None:
        """Do the part that happens before the fault; then kill the process if the fault is KILL."""
        after = ruling.fault.timing == "after"
        implicit = len(kinds) > 1 and kinds[-1] == "statement"
        if implicit and (kind in ("statement", STATEMENT_LOCK, STATEMENT_RISE) or after):
            self.fault_raw(f"BEGIN {self.isolation_level}")
        if after and not (implicit and kind != "statement"):
            _finish(run())
        if ruling.fault.effect == KILL:
            die()

    def fault_undo(self, ruling: Ruling, kind: str, sql: str, parameters: Any) -> None:
        """Roll back if SQLite itself would."""
        if kind in ("statement", STATEMENT_LOCK, STATEMENT_RISE, "commit", COMMIT_LOCK) and self.in_transaction:
            effect = ruling.fault.effect
            writes = effect == "INTERRUPT" and self._fault_writes(sql, parameters)
            if rolls_back(effect, writes=writes):
                self.fault_raw("ROLLBACK")

    def fault_ask(self, kind: str) -> Ruling | None:
        """Ask the depth about an operation on this database."""
        return self.fault_depth.ask(kind, self._fault_path()) if kind in self.fault_depth.kinds else None

    def fault_commit_takes_a_lock(self) -> bool:
        """Whether an injector wants `COMMIT_LOCK`, and a COMMIT here takes a lock."""
        if COMMIT_LOCK not in self.fault_depth.kinds:
            return False
        return not self.in_transaction or (not self._fault_holds_all and self._fault_has_a_journal())

    def fault_ends_a_journal(self) -> bool:
        """Whether an injector wants `COMMIT_END`, and the database has a rollback journal."""
        return COMMIT_END in self.fault_depth.kinds and self._fault_has_a_journal()

    def _fault_has_a_journal(self) -> bool:
        return self._fault_rows("PRAGMA main.journal_mode")[0][0] in _ROLLBACK_JOURNALS

    def fault_raw(self, sql: str) -> None:
        """Run SQL without asking the injectors."""
        self.fault_depth.module.Cursor(self).execute(sql).close()

    def _fault_rows(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """Query SQLite without asking the injectors; returns text as bytes, whatever the caller's text_factory is."""
        before, self.text_factory = self.text_factory, bytes
        try:
            rows: list[tuple[Any, ...]] = self.fault_depth.module.Cursor(self).execute(sql, parameters).fetchall()
        finally:
            self.text_factory = before
        return rows

    def _fault_path(self) -> str | None:
        """The path of the main database, as SQLite names it; None for a database without a file."""
        if self._fault_file is None:
            rows = self._fault_rows("PRAGMA database_list")
            self._fault_file = next((os.fsdecode(row[2] or b"") for row in rows if row[1] == b"main"), "")
        return self._fault_file or None


class WatchedCursor(_CursorBase):
    """The mixin over ``sqlite3.Cursor``."""

    def execute(self, sql: Any, parameters: Any = (), /) -> Any:
        """Ask about the statement, then run it."""
        connection: Any = self.connection
        if not connection.fault_depth.kinds:
            # Fast path: most statements run while no injector watches.
            return super().execute(sql, parameters)
        run = functools.partial(super().execute, sql, parameters)
        return connection.fault_perform(connection.fault_kinds(sql, parameters), run, sql, parameters)

    def executemany(self, sql: Any, rows: Iterable[Any], /) -> Any:
        """Ask about each row; the rows before the one that fails have been written."""
        connection: Any = self.connection
        kinds = connection.fault_kinds(sql)
        if not kinds:
            return super().executemany(sql, rows)
        # The transaction begins before the first row; the last kind is asked for each row.
        connection.fault_perform(kinds[:-1], lambda: None)
        asking = _AskingRows(connection, kinds[-1], sql)
        try:
            return super().executemany(sql, asking.through(rows))
        except BaseException:
            if asking.ruling is not None:
                connection.fault_undo(asking.ruling, kinds[-1], sql, ())
            raise

    def executescript(self, script: Any, /) -> Any:
        """Ask about each statement, and run them one by one."""
        connection: Any = self.connection
        if not isinstance(script, str) or "\0" in script or not connection.fault_depth.kinds:
            return super().executescript(script)
        if connection.in_transaction and connection.fault_control() is None:
            connection.fault_perform(("commit",), functools.partial(connection.fault_raw, "COMMIT"))
        for statement in split_script(script):
            kinds = connection.fault_kinds(statement, script=True)
            connection.fault_perform(kinds, functools.partial(_run_alone, connection, statement), statement)
        return self


class _AskingRows:
    """The rows of an ``executemany``; the injectors are asked about each row before SQLite takes it."""

    def __init__(self, connection: Any, kind: str, sql: str) -> None:
        self.ruling: Ruling | None = None
        self._connection = connection
        self._kind = kind
        self._sql = sql

    def through(self, rows: Iterable[Any]) -> Iterator[Any]:
        """Yield the rows; raises at the row that must fail."""
        for row in rows:
            ruling = self._connection.fault_ask(self._kind)
            if ruling is None and self._kind == "commit" and self._connection.fault_commit_takes_a_lock():
                ruling = self._connection.fault_ask(COMMIT_LOCK)
            for lock in self._connection.fault_locks_of(self._sql) if self._kind == "statement" else ():
                ruling = ruling or self._connection.fault_ask(lock)
            if ruling is not None and ruling.fault.timing == "before":
                self._fail(ruling)
            ends_a_journal = self._kind == "commit" and self._connection.fault_ends_a_journal()
            yield row
            self._connection.fault_took_locks((self._kind,), self._sql)
            # The next row is requested only after this one has run.
            if ruling is None and ends_a_journal:
                ruling = self._connection.fault_ask(COMMIT_END)
            if ruling is not None:
                self._fail(ruling)

    def _fail(self, ruling: Ruling) -> None:
        if ruling.fault.effect == KILL:
            die()
        self.ruling = ruling
        raise ruling.error


def _finish(result: Any) -> None:
    """Fetch all rows of a statement: one with RETURNING commits only at its end."""
    if hasattr(result, "fetchall"):
        result.fetchall()


def _run_alone(connection: Any, statement: str) -> None:
    """Run one statement of a script: no implicit BEGIN before it, and no COMMIT."""
    cursor = connection.fault_depth.module.Cursor(connection)
    if connection.in_transaction:
        cursor.execute(statement).fetchall()
    else:
        cursor.executescript(statement)
    cursor.close()
