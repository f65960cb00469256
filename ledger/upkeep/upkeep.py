"""Implements `Ledger.audit` and `Ledger.maintenance`, and the same on a file.

`audit_file` and `preview_file` read the database on disk without restoring it, so the first page takes only as long as
SQLite needs to read the rows. The rules are in `ledger.upkeep.audit` and `ledger.upkeep.maintenance`, the reading in
`ledger.upkeep.inspection`.

Not covered: session hooks for a file; only the program that runs the sessions has them.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace

from tornpage.ledger.clock import Clock, system_clock
from tornpage.ledger.disk.connections import DEFAULT_BUSY_TIMEOUT_MS, Connect
from tornpage.ledger.disk.files import resolve_state_dir
from tornpage.ledger.errors import StoreError, UsageError
from tornpage.ledger.records import Runtime
from tornpage.ledger.registry import TaskRegistry
from tornpage.ledger.stores.sqlite import SqliteStore
from tornpage.ledger.upkeep.audit import Audit, AuditCode, AuditFilters, AuditReport, Severity
from tornpage.ledger.upkeep.inspection import Liveness, PlainSource, SessionHook, SqliteSource, TaskSource, read_only
from tornpage.ledger.upkeep.maintenance import Maintenance, MaintenanceReport, audit, preview
from tornpage.ledger.workers import DIRECTORY_NAME, Workers

_log = logging.getLogger("ledger.upkeep")


class Upkeep:
    """Audits and maintains the tasks of one registry; the class of each pass is an attribute."""

    maintenance: type[Maintenance] = Maintenance
    collected: type[Audit] = Audit

    def __init__(
        self,
        tasks: TaskRegistry,
        *,
        worker_is_alive: Callable[[str], bool],
        clock: Clock,
        session_hooks: Mapping[Runtime, SessionHook] | None = None,
    ) -> None:
        self._tasks = tasks
        self._worker_is_alive = worker_is_alive
        self._clock = clock
        self._session_hooks = dict(session_hooks or {})
        backend = tasks.backend
        self._database = backend.database if isinstance(backend, SqliteStore) else None
        self._source: Final[TaskSource] = (
            SqliteSource(self._database) if self._database is not None else PlainSource(backend)
        )

    def audit(
        self, *, severity: Severity | str | None = None, code: AuditCode | str | None = None, limit: int | None = None
    ) -> AuditReport:
        """The findings, worst first. Raises `UsageError` with the valid values, and `StoreError`."""
        filters = AuditFilters.checked(severity, code, limit)
        return audit(self._source, self._liveness(), filters, self._clock(), self.collected)

    def maintain(self, *, apply: bool = False) -> MaintenanceReport:
        """Report what maintenance would do, or do it and copy the WAL into the database as far as others allow.

        Raises `UsageError` inside a batch, since each task is a separate transaction, and `StoreError`.
        """
        with self._tasks.backend.lock:
            if self._tasks.backend.writing():
                raise UsageError("maintenance can't run inside a batch: each task is a transaction of its own")
        given = self._source, self._liveness(), self._clock()
        if not apply:
            return preview(*given)
        return replace(self.maintenance(self._tasks, *given).apply(), checkpointed=self._checkpoint())

    def _liveness(self) -> Liveness:
        return Liveness(self._worker_is_alive, self._session_hooks)

    def _checkpoint(self) -> bool | None:
        """A PASSIVE checkpoint, which never waits; a failure is logged, since every change is safe in the WAL."""
        if self._database is None:
            return None
        try:
            return self._database.checkpoint("PASSIVE")
        except StoreError as error:
            _log.warning("the WAL could not be copied into the database after maintenance: %s", str(error))
            return False


def audit_file(
    state_dir: str | os.PathLike[str] | None = None,
    *,
    severity: Severity | str | None = None,
    code: AuditCode | str | None = None,
    limit: int | None = None,
    clock: Clock = system_clock,
    busy_timeout_ms: int = DEFAULT_BUSY_TIMEOUT_MS,
    connect: Connect = sqlite3.connect,
) -> AuditReport:
    """Audit the ledger of a state directory without restoring it; no findings if there is none yet.

    Writes nothing. Raises `UsageError` with the valid values, and `StoreError`.
    """
    filters = AuditFilters.checked(severity, code, limit)
    with _on_file(state_dir, busy_timeout_ms, connect) as (source, liveness):
        return audit(source, liveness, filters, clock())


def preview_file(
    state_dir: str | os.PathLike[str] | None = None,
    *,
    clock: Clock = system_clock,
    busy_timeout_ms: int = DEFAULT_BUSY_TIMEOUT_MS,
    connect: Connect = sqlite3.connect,
) -> MaintenanceReport:
    """Preview maintenance of the ledger of a state directory, without restoring it. Raises `StoreError`."""
    with _on_file(state_dir, busy_timeout_ms, connect) as (source, liveness):
        return preview(source, liveness, clock())


@contextmanager
def _on_file(
    state_dir: str | os.PathLike[str] | None, busy_timeout_ms: int, connect: Connect
) -> Iterator[tuple[SqliteSource, Liveness]]:
    place = resolve_state_dir(state_dir)
    with read_only(place, busy_timeout_ms=busy_timeout_ms, connect=connect) as database:
        yield SqliteSource(database), Liveness(Workers(place / DIRECTORY_NAME, new_id=str).is_alive)
