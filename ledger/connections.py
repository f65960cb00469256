"""Opening one connection to the database file, configured and checked.

Everything that may be wrong with a file is found here, before the ledger works with it: not a database, damaged,
locked, a journal mode that can't be had, a newer schema. What fails leaves no connection open and the file as it
was. Nothing here falls back to memory.

Not covered: what a connection is used for; see `ledger.database`.
"""

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger import files
from ledger.errors import (
    StoreCorrupt,
    StoreError,
    StoreTooOld,
    StoreUnavailable,
    UsageError,
    from_sqlite,
    is_database_error,
    primary_code,
)
from ledger.schema import SCHEMA_VERSION, migrate, read_version

Connect = Callable[..., Any]
"""Called as ``connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)``, as sqlite3's is."""

MEMORY: Final = ":memory:"
JOURNAL_MODES: Final = ("wal", "delete", "truncate", "persist")
SYNCHRONOUS_LEVELS: Final = ("off", "normal", "full", "extra")
NEEDED_SQLITE: Final = (3, 31, 0)
DEFAULT_BUSY_TIMEOUT_MS: Final = 5000
BUSY: Final = 5
_CHECKPOINT_PAGES: Final = 1000
_RETRY_SECONDS: Final = 0.005

_log = logging.getLogger("ledger.connections")


def default_synchronous(journal_mode: str) -> str:
    """FULL, but EXTRA for DELETE, where FULL may lose the last acknowledged transaction in a power cut."""
    return "extra" if journal_mode == "delete" else "full"


def require_sqlite(version: str = sqlite3.sqlite_version) -> None:
    """Raise `StoreTooOld` where SQLite is older than the ledger needs."""
    found = tuple(int(part) for part in version.split(".")[:3])
    if found < NEEDED_SQLITE:
        needed = ".".join(map(str, NEEDED_SQLITE))
        raise StoreTooOld(f"SQLite {version} is too old: the ledger needs {needed} or newer")


class Settings(msgspec.Struct, frozen=True):
    """How connections to one database are opened."""

    path: Path | str
    journal_mode: str
    synchronous: str
    busy_timeout_ms: int
    connect: Connect

    @property
    def in_memory(self) -> bool:
        """Whether the database lives in memory only."""
        return self.path == MEMORY


def settings_for(
    state_dir: Path | str, *, journal_mode: str, synchronous: str | None, busy_timeout_ms: int, connect: Connect
) -> Settings:
    """Check what was asked for and make the files ready.

    Raises `UsageError` for an unknown mode or level, `StoreTooOld`, and what `ledger.files.prepare` raises.
    """
    level = synchronous if synchronous is not None else default_synchronous(journal_mode)
    for name, value, allowed in (
        ("journal_mode", journal_mode, JOURNAL_MODES),
        ("synchronous", level, SYNCHRONOUS_LEVELS),
    ):
        if value not in allowed:
            raise UsageError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
    require_sqlite()
    if str(state_dir) == MEMORY:
        return Settings(MEMORY, "memory", level, busy_timeout_ms, connect)
    path = files.prepare(Path(state_dir), newest_schema=SCHEMA_VERSION)
    return Settings(path, journal_mode, level, busy_timeout_ms, connect)


def bare_connection(settings: Settings) -> Any:
    """A connection with the busy timeout and nothing else set."""
    return settings.connect(
        str(settings.path),
        timeout=settings.busy_timeout_ms / 1000,
        isolation_level=None,
        check_same_thread=False,
    )


def open_connection(settings: Settings, *, check_content: bool) -> Any:
    """A configured connection to a file with the right schema; on failure nothing stays open.

    `check_content` runs SQLite's integrity check. Raises `StoreError`.
    """
    connection = None
    try:
        connection = bare_connection(settings)
        files.refuse_newer(settings.path, read_version(connection), SCHEMA_VERSION)
        if check_content:
            _check_content(connection, settings)
        _set_journal_mode(connection, settings)
        connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        migrate(connection)
        if not settings.in_memory:
            files.tighten(Path(settings.path))
    except BaseException as error:
        if connection is not None:
            close_quietly(connection)
        if isinstance(error, StoreError) or not is_database_error(error):
            raise
        raise from_sqlite(error, doing=f"open {settings.path}") from error
    return connection


def _check_content(connection: Any, settings: Settings) -> None:
    """Raise `StoreCorrupt` where SQLite's own check finds damage.

    The whole check and not quick_check, which takes two thirds of the time but doesn't compare indexes with their
    tables. A row that breaks a CHECK is not damage: it is quarantined when it is read, and the others load.
    """
    connection.execute("PRAGMA ignore_check_constraints = ON")
    problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)").fetchall()]
    connection.execute("PRAGMA ignore_check_constraints = OFF")
    if problems != ["ok"]:
        raise StoreCorrupt(f"{settings.path} is damaged: {'; '.join(problems)}; it was left as it is")


def _set_journal_mode(connection: Any, settings: Settings) -> None:
    """Ask for the mode and check the answer: SQLite keeps the old mode without an error where it must.

    SQLite doesn't wait for the lock when two openers switch a new file to WAL at once, so it is asked again.
    """
    if settings.in_memory:
        return
    deadline = time.monotonic() + settings.busy_timeout_ms / 1000
    answer = None
    while answer is None:
        try:
            answer = connection.execute(f"PRAGMA journal_mode = {settings.journal_mode}").fetchall()[0][0]
        except Exception as error:
            if primary_code(error) != BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)
    if answer != settings.journal_mode:
        raise StoreUnavailable(
            f"{settings.path} can't be used with journal_mode {settings.journal_mode}: SQLite stays with {answer}"
        )


def in_transaction(connection: Any) -> bool:
    """Whether a transaction is open; a connection that somebody closed is in none."""
    try:
        return bool(connection.in_transaction)
    except Exception:  # noqa: BLE001 - any driver's error.
        return False


def close_quietly(connection: Any) -> None:
    """Close a connection; a failure is logged."""
    try:
        connection.close()
    except Exception as error:  # noqa: BLE001 - nothing is lost: the data is committed or it isn't.
        _log.warning("closing a connection failed: %s", error)
