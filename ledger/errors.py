# ruff: noqa: N818 - the names follow the specification: NotFound, StoreBusy.
"""The ledger's exceptions, in one hierarchy.

There are two separate kinds. *Misuse and refusal* (`UsageError`, `NotFound`, `IllegalTransition`): the caller asked for
something that is not allowed; the store did not fail, and nothing was written. *Store errors* (`StoreError` and its
subclasses): the storage failed. Each has an `outcome`:

* ``unchanged``: the change is provably not in the database, and can't reappear, not even after a crash.
* ``unknown``: a COMMIT reported an error, and no later commit has secured the state yet. Memory equals what disk shows
  now, but until the next successful write a crash may leave the other of the two states.

SQLite's result code decides which class is raised. Message texts are used only if a driver provides no code.
Not covered: a driver whose exceptions have no base class named ``Error``.
"""

import sqlite3
from typing import Final, Literal

Outcome = Literal["unchanged", "unknown"]


class LedgerError(Exception):
    """Base of everything the ledger raises on purpose."""


class UsageError(LedgerError, ValueError):
    """The caller passed a value that is not allowed; the message shows it and says what is allowed."""


class NotFound(LedgerError, LookupError):
    """No task (or row) with this id."""


class IllegalTransition(LedgerError):
    """The state machine refuses this change; nothing was written."""


class StoreError(LedgerError):
    """The storage failed.

    `outcome` is ``unchanged`` or ``unknown``; `retryable`: the same call can succeed later without a repair;
    `sqlite_errorcode` and `sqlite_errorname` are SQLite's, None if the driver provided none.
    """

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome = "unchanged",
        retryable: bool = False,
        sqlite_errorcode: int | None = None,
        sqlite_errorname: str | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome
        self.retryable = retryable
        self.sqlite_errorcode = sqlite_errorcode
        self.sqlite_errorname = sqlite_errorname

    def __str__(self) -> str:
        return f"{super().__str__()} [outcome: {self.outcome}]"


class StoreBusy(StoreError):
    """Another connection holds a lock for longer than the busy timeout (BUSY, LOCKED, PROTOCOL)."""


class StoreFull(StoreError):
    """The disk, the quota or the database's page limit is full (FULL)."""


class StoreIOError(StoreError):
    """The operating system failed a read, a write, a sync or another file operation (IOERR and its extended codes)."""


class StoreCorrupt(StoreError):
    """The file is damaged or is no SQLite database (CORRUPT, NOTADB)."""


class StoreReadOnly(StoreError):
    """The database, its directory or its media can't be written (READONLY, PERM, AUTH)."""


class StoreUnavailable(StoreError):
    """The store can't be used: it can't be opened, is closed, is suspect after an error, or its restore failed."""


class StoreMemoryError(StoreError):
    """Memory ran out inside SQLite (NOMEM, or Python's MemoryError)."""


class StoreConstraint(StoreError):
    """A constraint of the schema refused the row (CONSTRAINT); a defect in the caller or in the ledger."""


class StoreSchemaNewer(StoreError):
    """The database was written by a newer version of the ledger than this one."""


class StoreTooOld(StoreError):
    """The SQLite library is missing or older than the ledger needs."""


NOMEM: Final = 7
_BY_PRIMARY_CODE: Final[dict[int, tuple[type[StoreError], bool]]] = {
    3: (StoreReadOnly, False),  # PERM
    5: (StoreBusy, True),  # BUSY
    6: (StoreBusy, True),  # LOCKED
    NOMEM: (StoreMemoryError, True),
    8: (StoreReadOnly, False),  # READONLY
    9: (StoreError, True),  # INTERRUPT
    10: (StoreIOError, False),  # IOERR
    11: (StoreCorrupt, False),  # CORRUPT
    13: (StoreFull, False),  # FULL
    14: (StoreUnavailable, False),  # CANTOPEN
    15: (StoreBusy, True),  # PROTOCOL: the WAL's locking protocol gave up; a later call can succeed.
    17: (StoreError, True),  # SCHEMA
    19: (StoreConstraint, False),  # CONSTRAINT
    22: (StoreIOError, False),  # NOLFS
    23: (StoreReadOnly, False),  # AUTH
    26: (StoreCorrupt, False),  # NOTADB
}
_IOERR_NOMEM: Final = 10 | (12 << 8)
_BY_MESSAGE: Final[tuple[tuple[str, int], ...]] = (
    ("database is locked", 5),
    ("table is locked", 6),
    ("readonly database", 8),
    ("disk i/o error", 10),
    ("malformed", 11),
    ("database or disk is full", 13),
    ("unable to open", 14),
    ("not a database", 26),
)


def is_database_error(error: BaseException) -> bool:
    """Whether a database driver raised this: `sqlite3.Error`, another driver's ``Error``, or MemoryError.

    A driver such as pysqlite3 has its own exception classes; the drivers share only the DB-API's class name.
    """
    if isinstance(error, (sqlite3.Error, MemoryError)):
        return True
    return any(base.__name__ == "Error" and base.__bases__ == (Exception,) for base in type(error).__mro__)


def primary_code(error: BaseException) -> int | None:
    """SQLite's primary result code of a driver's exception, or None if it has none."""
    if isinstance(error, MemoryError):
        return NOMEM
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return NOMEM if code == _IOERR_NOMEM else code & 0xFF
    text = str(error).lower()
    return next((known for fragment, known in _BY_MESSAGE if fragment in text), None)


def from_sqlite(error: BaseException, *, doing: str, outcome: Outcome = "unchanged") -> StoreError:
    """Translate a driver's exception; use it as ``raise from_sqlite(error, doing="commit") from error``.

    A `StoreError` is returned itself, with `outcome` set: another store implementation may raise it.
    """
    if isinstance(error, StoreError):
        error.outcome = outcome
        return error
    code = getattr(error, "sqlite_errorcode", None)
    primary = primary_code(error)
    kind, retryable = _BY_PRIMARY_CODE.get(primary if primary is not None else -1, (StoreError, False))
    name = getattr(error, "sqlite_errorname", None)
    shown = name or type(error).__name__
    text = str(error) or "no message"
    return kind(
        f"could not {doing}: {shown}: {text}",
        outcome=outcome,
        retryable=retryable,
        sqlite_errorcode=code if isinstance(code, int) else None,
        sqlite_errorname=name if isinstance(name, str) else None,
    )
