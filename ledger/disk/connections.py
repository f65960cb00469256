"""Opens one connection to the database file, configures it and checks the file.

All defects of a file are detected here, before the ledger uses it: not a database, damaged, locked, a journal mode that
SQLite refuses, a newer schema. On failure no connection stays open and the file is unchanged. There is no fallback to
memory.

Closing the last connection copies the log (``-wal``) into the database. So if there is a log, the content is checked on
a read-only connection, which doesn't. The journal mode is optional: an existing file keeps its own.

Not covered: the use of a connection; see `ledger.disk.database`. SQLite rolls back a hot journal of a crash before the
first read, even into a damaged file.
"""

import logging
import sqlite3
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.ledger.disk import files
from tornpage.ledger.disk.schema import SCHEMA_VERSION, migrate, read_version
from tornpage.ledger.errors import (
    StoreCorrupt,
    StoreError,
    StoreTooOld,
    StoreUnavailable,
    UsageError,
    from_sqlite,
    is_database_error,
    primary_code,
)

Connect = Callable[..., Any]
"""Called as ``connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)``, as sqlite3's is.

If the file has a log when it is opened, also with ``uri=True`` and ``file:…?mode=ro`` as the path.
"""

MEMORY: Final = ":memory:"
DEFAULT_JOURNAL_MODE: Final = "wal"
JOURNAL_MODES: Final = ("wal", "delete", "truncate", "persist")
SYNCHRONOUS_LEVELS: Final = ("off", "normal", "full", "extra")
"""In the order of SQLite's numbers for them."""
NEEDED_SQLITE: Final = (3, 31, 0)
DEFAULT_BUSY_TIMEOUT_MS: Final = 5000
BUSY: Final = 5
_LONGEST_BUSY_TIMEOUT_MS: Final = 2**31 - 1
"""SQLite's limit; it takes a longer time for none at all."""
_CHECKPOINT_PAGES: Final = 1000
_RETRY_SECONDS: Final = 0.005

_log = logging.getLogger("ledger.connections")


class Durability(StrEnum):
    """The durability of acknowledged changes. Source: sqlite-under-faults.md, "Rules"."""

    POWER_CUT = "power_cut"
    """They survive the end of the process and a power cut."""
    LOSES_NEWEST = "loses_newest"
    """They survive the end of the process. A power cut may lose the newest of them, but damages nothing."""
    MAY_CORRUPT = "may_corrupt"
    """They survive the end of the process. A power cut may damage the file."""
    NONE = "none"
    """They are lost when the process ends: the database is in memory."""


def durability(journal_mode: str, synchronous: str) -> Durability:
    """The guarantee of a journal mode at a level of synchronous, both in lower case."""
    if journal_mode == "memory":
        return Durability.NONE
    if synchronous == "extra" or (synchronous == "full" and journal_mode != "delete"):
        return Durability.POWER_CUT
    if synchronous == "full" or (synchronous == "normal" and journal_mode == "wal"):
        return Durability.LOSES_NEWEST
    return Durability.MAY_CORRUPT


def default_synchronous(journal_mode: str) -> str:
    """FULL, but EXTRA for DELETE, where FULL may lose the last acknowledged transaction in a power cut."""
    return "extra" if journal_mode == "delete" else "full"


def require_sqlite(version: str = sqlite3.sqlite_version) -> None:
    """Raise `StoreTooOld` if SQLite is older than the ledger needs."""
    found = tuple(int(part) for part in version.split(".")[:3])
    if found < NEEDED_SQLITE:
        needed = ".".join(map(str, NEEDED_SQLITE))
        raise StoreTooOld(f"SQLite {version} is too old: the ledger needs {needed} or newer")


class Settings(msgspec.Struct, frozen=True):
    """The settings of connections to one database.

    Without a `journal_mode` the file keeps its own, and a new one gets WAL; without `synchronous` the mode decides.
    """

    path: Path | str
    journal_mode: str | None
    synchronous: str | None
    busy_timeout_ms: int
    connect: Connect

    @property
    def in_memory(self) -> bool:
        """Whether the database lives in memory only."""
        return self.path == MEMORY


def settings_for(
    state_dir: Path | str, *, journal_mode: str | None, synchronous: str | None, busy_timeout_ms: int, connect: Connect
) -> Settings:
    """Check the settings and prepare the files.

    Raises `UsageError` for an unknown mode or level and an invalid timeout, `StoreTooOld`, and the errors of
    `ledger.disk.files.prepare`.
    """
    for name, value, allowed in (
        ("journal_mode", journal_mode, JOURNAL_MODES),
        ("synchronous", synchronous, SYNCHRONOUS_LEVELS),
    ):
        if value is not None and value not in allowed:
            raise UsageError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
    refuse_timeout(busy_timeout_ms)
    require_sqlite()
    if str(state_dir) == MEMORY:
        return Settings(MEMORY, journal_mode, synchronous, busy_timeout_ms, connect)
    path = files.prepare(Path(state_dir), newest_schema=SCHEMA_VERSION)
    return Settings(path, journal_mode, synchronous, busy_timeout_ms, connect)


def refuse_timeout(busy_timeout_ms: object) -> None:
    """Raise `UsageError` unless this is a time that SQLite can wait."""
    if type(busy_timeout_ms) is not int or not 0 <= busy_timeout_ms <= _LONGEST_BUSY_TIMEOUT_MS:
        raise UsageError(
            f"busy_timeout_ms must be a whole number of milliseconds from 0 to {_LONGEST_BUSY_TIMEOUT_MS}, "
            f"not {busy_timeout_ms!r}"
        )


def bare_connection(settings: Settings) -> Any:
    """A connection with only the busy timeout set."""
    return _connect(settings, str(settings.path))


def _connect(settings: Settings, place: str, **more: Any) -> Any:
    with files.opening:
        return settings.connect(
            place, timeout=settings.busy_timeout_ms / 1000, isolation_level=None, check_same_thread=False, **more
        )


def open_connection(settings: Settings, *, check_content: bool) -> Any:
    """A configured connection to a file with the current schema; on failure no connection stays open.

    `check_content` runs SQLite's integrity check. Raises `StoreError`.
    """
    connection = None
    try:
        if check_content and _has_log(settings):
            _check_read_only(settings)
            check_content = False
        connection = bare_connection(settings)
        files.refuse_newer(settings.path, read_version(connection), SCHEMA_VERSION)
        if check_content:
            _check_content(connection, settings)
        mode = _set_journal_mode(connection, settings)
        level = settings.synchronous if settings.synchronous is not None else default_synchronous(mode)
        connection.execute(f"PRAGMA synchronous = {level}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        migrate(connection)
        if not settings.in_memory:
            files.tighten(Path(settings.path))
    except BaseException as error:
        if connection is not None:
            close_quietly(connection)
        if isinstance(error, OSError):  # no fault: the files beside it are looked at by Python, not by SQLite.
            raise StoreUnavailable(f"could not open {settings.path}: {error}") from error
        if isinstance(error, StoreError) or not is_database_error(error):
            raise
        raise from_sqlite(error, doing=f"open {settings.path}") from error
    return connection


def _has_log(settings: Settings) -> bool:
    """Whether closing may copy a log into the file. With a hot rollback journal a read-only connection can't read."""
    if settings.in_memory:
        return False
    path = Path(settings.path)
    return path.with_name(f"{path.name}-wal").exists() and not path.with_name(f"{path.name}-journal").exists()


def _check_read_only(settings: Settings) -> None:
    """Raise `StoreCorrupt` or `StoreSchemaNewer`, without changing the database and its log."""
    connection = _connect(settings, f"{Path(settings.path).absolute().as_uri()}?mode=ro", uri=True)
    try:
        files.refuse_newer(settings.path, read_version(connection), SCHEMA_VERSION)
        _check_content(connection, settings)
    finally:
        close_quietly(connection)


def _check_content(connection: Any, settings: Settings) -> None:
    """Raise `StoreCorrupt` if SQLite's own check finds damage.

    It is integrity_check, not quick_check, which takes two thirds of the time but doesn't compare indexes with their
    tables. A row that breaks a CHECK is not damage: it is quarantined when it is read, and the others load.
    """
    connection.execute("PRAGMA ignore_check_constraints = ON")
    problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)").fetchall()]
    connection.execute("PRAGMA ignore_check_constraints = OFF")
    if problems != ["ok"]:
        raise StoreCorrupt(f"{settings.path} is damaged: {'; '.join(problems)}; it was left as it is")


def journal_mode(connection: Any) -> str:
    """A connection's journal mode, in lower case; as of its last transaction, since others may switch an idle file."""
    return str(connection.execute("PRAGMA journal_mode").fetchall()[0][0])


def synchronous(connection: Any) -> str:
    """A connection's level of synchronous."""
    return SYNCHRONOUS_LEVELS[connection.execute("PRAGMA synchronous").fetchall()[0][0]]


def _set_journal_mode(connection: Any, settings: Settings) -> str:
    """Set the mode if one is wanted, check SQLite's answer and return it.

    If SQLite can't switch, it keeps the old mode without an error. A file without a page has no mode yet. SQLite
    doesn't wait for the lock when two connections switch a new file to WAL at once, so the switch is retried.
    """
    wanted = settings.journal_mode
    if wanted is None and connection.execute("PRAGMA page_count").fetchall()[0][0] == 0:
        wanted = DEFAULT_JOURNAL_MODE
    if wanted is None or settings.in_memory:
        return journal_mode(connection)
    deadline = time.monotonic() + settings.busy_timeout_ms / 1000
    answer: str | None = None
    while answer is None:
        try:
            answer = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchall()[0][0]
        except Exception as error:
            if primary_code(error) != BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)
    if answer != wanted:
        raise StoreUnavailable(f"{settings.path} can't be used with journal_mode {wanted}: SQLite stays with {answer}")
    return answer


def in_transaction(connection: Any) -> bool:
    """Whether a transaction is open; False for a closed connection."""
    try:
        return bool(connection.in_transaction)
    # no fault: sqlite3's own property never raises; another driver's may.
    except Exception:  # noqa: BLE001 - any driver's error.
        return False


def close_quietly(connection: Any) -> None:
    """Close a connection; a failure is logged."""
    try:
        connection.close()
    # no fault: sqlite3 closes whatever happens; another driver may not.
    except Exception as error:  # noqa: BLE001 - nothing is lost: the data is committed or it isn't.
        _log.warning("closing a connection failed: %s", str(error))
