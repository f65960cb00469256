"""Iterates over all tasks without loading them: the source of tasks for an audit and a maintenance pass.

A `TaskSource` streams the few fields of each row that the rules need (`AuditedTask`), as stored and without putting the
times in order, and reads single tasks and their workers by key. It caches and writes nothing. The SQLite source works
on any connection, so an audit needs no restored ledger: `read_only` opens the file for that.

`Liveness` decides whether work on a task continues: by the worker that runs it (an operating system lock, so this is
certain), else by the runtime's own session hook. If that is unknown, the task counts as alive: marking live work as
lost would drop its real end (openclaw issues 127985 and 132602). A stored session of a dead worker doesn't count
(88205).

Not covered: the handling of a lost task; see `ledger.upkeep.maintenance`.
"""

# no fault in this file: read-only access from outside is no action of a target; it has tests of its own.

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from tornpage.ledger.cache.plain import PlainBackend
from tornpage.ledger.disk import files
from tornpage.ledger.disk.connections import (
    DEFAULT_BUSY_TIMEOUT_MS,
    MEMORY,
    Connect,
    Settings,
    bare_connection,
    close_quietly,
    in_transaction,
    refuse_timeout,
    require_sqlite,
)
from tornpage.ledger.disk.rows import TASKS, Quarantined, Row, fetch, refuse_padded
from tornpage.ledger.disk.schema import SCHEMA_VERSION, read_version
from tornpage.ledger.errors import from_sqlite, is_database_error
from tornpage.ledger.records import Runtime, Task
from tornpage.ledger.rules.times import ordered
from tornpage.ledger.runs import RUNS
from tornpage.ledger.stores.store import Backend
from tornpage.ledger.upkeep.audit import AuditedTask

SessionHook = Callable[[Task], bool | None]
"""Asks a runtime whether a session still backs a task; None means that it doesn't know."""

Visit = Callable[[AuditedTask], object]
"""Called for each task with the store locked; must not call the ledger."""

_CHUNK_ROWS: Final = 500
_COLUMNS: Final = ", ".join((*AuditedTask.__struct_fields__, "insertion"))
# S608: the names are our own. By key range and not by an open cursor, so that `fetch` can repeat a chunk.
_SCAN: Final = f"SELECT {_COLUMNS} FROM tasks WHERE insertion > ? ORDER BY insertion LIMIT {_CHUNK_ROWS}"  # noqa: S608
_WORKERS: Final = f"SELECT task_id, worker_id FROM {RUNS.name} WHERE status = 'running'"  # noqa: S608 - our own.
_BEFORE_ALL: Final = -1e19
"""Less than the least number of a row."""

_log = logging.getLogger("ledger.inspection")


class TaskSource(Protocol):
    """The source of tasks. Every method raises `StoreError` if the store can't be read."""

    def scan(self, visit: Visit) -> tuple[Quarantined, ...]:
        """Visit every task as of one moment, in insertion order; returns the rows that can't be read."""
        ...

    def task(self, task_id: str) -> Task | None:
        """One task whole, times in order; None where there is none or it can't be read."""
        ...

    def workers(self, task_id: str | None = None) -> Mapping[str, Sequence[str]]:
        """The ids of the workers that run a task, by task id; only those of one task, if given."""
        ...


class Readable(Protocol):
    """A database to read from: `ledger.disk.database.Database`, or a `read_only` one."""

    def reading(self) -> AbstractContextManager[Any]:
        """A connection in a read transaction; errors are raised as `StoreError`."""
        ...


class SqliteSource:
    """Tasks from the rows of a database."""

    def __init__(self, database: Readable) -> None:
        self._database = database

    def scan(self, visit: Visit) -> tuple[Quarantined, ...]:
        """Visit every task as of one moment, a few hundred rows in memory at a time."""
        quarantined: list[Quarantined] = []
        with self._database.reading() as connection:
            if not _has_table(connection, TASKS.name):
                return ()
            for rows in _chunks(connection):
                for task in _readable(rows, quarantined):
                    visit(task)
        return tuple(quarantined)

    def task(self, task_id: str) -> Task | None:
        """One task whole, times in order; None where there is none or it can't be read."""
        with self._database.reading() as connection:
            rows = fetch(connection, TASKS.select_one, (task_id,))
        tasks, _ = TASKS.decode_all(rows)
        return tasks[0] if tasks else None

    def workers(self, task_id: str | None = None) -> Mapping[str, Sequence[str]]:
        """The workers of the running runs, by task id."""
        with self._database.reading() as connection:
            if not _has_table(connection, RUNS.name):
                return {}
            one = " AND task_id = ?" if task_id is not None else ""
            rows = fetch(connection, _WORKERS + one, () if task_id is None else (task_id,))
        found: dict[str, list[str]] = {}
        for of_task, worker_id in rows:
            found.setdefault(of_task, []).append(worker_id)
        return found


class PlainSource:
    """Tasks from another `TaskStore`, which has no workers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def scan(self, visit: Visit) -> tuple[Quarantined, ...]:
        """Visit every task of one snapshot."""
        with self._backend.lock:
            backend = self._backend
            snapshot = backend.seen() if isinstance(backend, PlainBackend) else backend.load()[1]
            for task in snapshot.tasks.values():
                visit(AuditedTask.of(task))
        return tuple(snapshot.quarantined)

    def task(self, task_id: str) -> Task | None:
        """One task whole, times in order."""
        with self._backend.lock:
            backend = self._backend
            tasks = (backend.seen() if isinstance(backend, PlainBackend) else backend.load()[1]).tasks
        return ordered(tasks[task_id]) if task_id in tasks else None

    def workers(self, task_id: str | None = None) -> Mapping[str, Sequence[str]]:  # noqa: ARG002 - the protocol's.
        """Nothing: run history is kept in SQLite only."""
        return {}


class Liveness:
    """Whether work on a task continues; answers about workers are cached, so make one object per pass."""

    def __init__(
        self, worker_is_alive: Callable[[str], bool], session_hooks: Mapping[Runtime, SessionHook] | None = None
    ) -> None:
        self._worker_is_alive = worker_is_alive
        self._session_hooks = dict(session_hooks or {})
        self._known: dict[str, bool] = {}

    @property
    def has_session_hooks(self) -> bool:
        """Whether there are session hooks for tasks without a worker."""
        return bool(self._session_hooks)

    def why_lost(self, workers: Sequence[str], task: Callable[[], Task | None]) -> str | None:
        """Why an active task is lost; None if its worker or session is alive, or if that is unknown.

        `task` reads the whole task, and is called only for a session hook. Call this without any lock.
        """
        if workers:
            return None if any(map(self._alive, workers)) else f"its worker {workers[-1]} is gone"
        if not self.has_session_hooks:
            return None
        whole = task()
        return "its session is gone" if whole is not None and self._backing(whole) is False else None

    def _alive(self, worker_id: str) -> bool:
        known = self._known.get(worker_id)
        if known is None:
            known = self._known[worker_id] = self._worker_is_alive(worker_id)
        return known

    def _backing(self, task: Task) -> bool | None:
        hook = self._session_hooks.get(task.runtime)
        if hook is None:
            return None
        try:
            return hook(task)
        except Exception:  # noqa: BLE001 - a hook is foreign code; after a failure the state is unknown.
            _log.exception("the session hook of the runtime %s failed; the task counts as backed", task.runtime)
            return None


class ReadOnlyDatabase:
    """A database file opened read-only: not migrated, not checked as a whole, no mode changed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The connection, in one read transaction. Raises `StoreError`."""
        try:
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                if in_transaction(self._connection):
                    self._connection.execute("ROLLBACK")
        except Exception as error:
            if is_database_error(error):
                raise from_sqlite(error, doing="read the ledger") from error
            raise


@contextmanager
def read_only(
    state_dir: Path,
    *,
    busy_timeout_ms: int = DEFAULT_BUSY_TIMEOUT_MS,
    connect: Connect = sqlite3.connect,
) -> Iterator[ReadOnlyDatabase]:
    """The database of a state directory, read-only inside the block; an empty one if there is none yet.

    Raises `StoreError` as opening a ledger does; creates, migrates and changes nothing.
    """
    refuse_timeout(busy_timeout_ms)
    require_sqlite()
    path = files.existing(state_dir, newest_schema=SCHEMA_VERSION)
    if path is None:
        _log.info("there is no ledger in %s yet", state_dir)
    connection = _query_only(path if path is not None else MEMORY, busy_timeout_ms, connect)
    try:
        yield ReadOnlyDatabase(connection)
    finally:
        close_quietly(connection)


def _query_only(path: Path | str, busy_timeout_ms: int, connect: Connect) -> Any:
    # There may be a hot journal that must be rolled back first, so the file is not opened with mode=ro.
    connection = None
    try:
        connection = bare_connection(Settings(path, "wal", "full", busy_timeout_ms, connect))
        connection.execute("PRAGMA query_only = ON")
        files.refuse_newer(path, read_version(connection), SCHEMA_VERSION)
    except BaseException as error:
        if connection is not None:
            close_quietly(connection)
        if is_database_error(error):
            raise from_sqlite(error, doing=f"open {path}") from error
        raise
    return connection


def _has_table(connection: Any, name: str) -> bool:
    found = fetch(connection, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return bool(found)


def _chunks(connection: Any) -> Iterator[list[Row]]:
    last = _BEFORE_ALL
    while rows := fetch(connection, _SCAN, (last,)):
        yield rows
        last = rows[-1][-1]


def _readable(rows: list[Row], quarantined: list[Quarantined]) -> Sequence[AuditedTask]:
    try:
        return [_kept(task) for task in msgspec.convert(rows, list[AuditedTask])]
    except msgspec.ValidationError:
        return list(_one_by_one(rows, quarantined))


def _one_by_one(rows: list[Row], quarantined: list[Quarantined]) -> Iterator[AuditedTask]:
    for row in rows:
        try:
            yield _kept(msgspec.convert(row, AuditedTask))
        except msgspec.ValidationError as error:
            quarantined.append(Quarantined(TASKS.name, str(row[0]), str(error)))


def _kept(task: AuditedTask) -> AuditedTask:
    refuse_padded(task.owner_key, task.run_id)
    return task
