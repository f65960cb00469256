"""The ledger: opens the database, and gives access to tasks, run history, outbox and workers.

`Ledger.open` opens (and creates, if necessary) the database in a state directory, restores the tasks and returns a
ledger; `close` it, or use it as a context manager. With the same clock and the same `new_id`, the same calls produce
the same rows, byte for byte.

Not covered: sharing a ledger across `fork`; open another one in the child.
"""

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from tornpage.ledger.clock import Clock, system_clock
from tornpage.ledger.disk.connections import DEFAULT_BUSY_TIMEOUT_MS, MEMORY, Connect, Durability
from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.files import resolve_state_dir
from tornpage.ledger.errors import UsageError
from tornpage.ledger.history import RunHistory
from tornpage.ledger.outbox import Outbox
from tornpage.ledger.records import Runtime
from tornpage.ledger.recovery import Recovered
from tornpage.ledger.registry import ControlHook, TaskRegistry
from tornpage.ledger.stores.sqlite import SqliteStore
from tornpage.ledger.stores.store import Backend, TaskStore
from tornpage.ledger.upkeep.audit import AuditCode, AuditReport, Severity
from tornpage.ledger.upkeep.inspection import SessionHook
from tornpage.ledger.upkeep.maintenance import MaintenanceReport
from tornpage.ledger.upkeep.upkeep import Upkeep
from tornpage.ledger.workers import DIRECTORY_NAME, Workers


def new_uuid() -> str:
    """A random UUID as text."""
    return str(uuid.uuid4())


def _worker_directory(database: Database) -> Path | None:
    return None if database.in_memory else Path(database.path).parent / DIRECTORY_NAME


def _unknown_worker(_worker_id: str) -> bool:
    """A worker counts as alive if its state is unknown."""
    return True


class Ledger:
    """An open ledger; make one with `open`.

    `tasks` is the task registry; `database` is the open database, None with another store.
    """

    def __init__(
        self,
        tasks: TaskRegistry,
        backend: Backend,
        database: Database | None,
        upkeep: Upkeep,
        history: RunHistory | None = None,
        *,
        outbox: Outbox | None = None,
    ) -> None:
        self.tasks: Final = tasks
        self.database: Final = database
        self._backend = backend
        self._upkeep = upkeep
        self._history = history
        self._outbox = outbox

    @classmethod
    def open(
        cls,
        state_dir: str | os.PathLike[str] | None = None,
        *,
        journal_mode: str | None = None,
        synchronous: str | None = None,
        busy_timeout_ms: int = DEFAULT_BUSY_TIMEOUT_MS,
        clock: Clock = system_clock,
        new_id: Callable[[], str] = new_uuid,
        connect: Connect = sqlite3.connect,
        database: type[Database] = Database,
        registry: type[TaskRegistry] = TaskRegistry,
        store: TaskStore | None = None,
        control_hooks: Mapping[Runtime, ControlHook] | None = None,
        session_hooks: Mapping[Runtime, SessionHook] | None = None,
        workers: Workers | None = None,
        history: type[RunHistory] = RunHistory,
        outbox: type[Outbox] = Outbox,
        upkeep: type[Upkeep] = Upkeep,
        observers: Iterable[object] = (),
    ) -> Self:
        """Open the ledger of a state directory and restore its tasks.

        `state_dir`: default TORNPAGE_STATE_DIR, else the platform's user state directory; ``:memory:`` keeps all data
        in memory. `journal_mode`: wal, delete, truncate or persist; an existing file is switched to it; by default a
        file keeps its mode, and a new one gets wal. `synchronous`: off, normal, full or extra; default full, for delete
        extra; `durability` says what a lower level loses. `busy_timeout_ms`: how long to wait for another process's
        lock. `connect`: opens all SQLite connections. `store`: another `TaskStore` instead of SQLite; it keeps tasks
        only. `workers`: reports which workers are alive; by default the locks in the state directory.
        `session_hooks`: report whether a session still backs a task without a worker.
        `observers`: notified of every restore and of every change; see `ledger.observers`.

        Raises `StoreError` (and leaves nothing open) if the file can't be used or read as a whole, and `UsageError`.
        """
        file: Database | None = None
        chosen: TaskStore | None = store
        with ExitStack() as undo:
            if chosen is None:
                place = MEMORY if state_dir == MEMORY else resolve_state_dir(state_dir)
                file = database.open(
                    place,
                    journal_mode=journal_mode,
                    synchronous=synchronous,
                    busy_timeout_ms=busy_timeout_ms,
                    connect=connect,
                )
                undo.callback(file.close)
                chosen = SqliteStore(file)
            tasks = registry(chosen, clock=clock, new_id=new_id, control_hooks=control_hooks)
            runs = messages = None
            if file is not None:
                held = workers if workers is not None else Workers(_worker_directory(file), new_id=new_id)
                runs = history(file, tasks, held, clock=clock, new_id=new_id)
                messages = outbox(file, held, clock=clock, new_id=new_id)
                runs.worker_references.append(messages.leaseholders)
            is_alive = runs.workers.is_alive if runs is not None else _unknown_worker
            kept_up = upkeep(tasks, worker_is_alive=is_alive, clock=clock, session_hooks=session_hooks)
            ledger = cls(tasks, tasks.backend, file, kept_up, runs, outbox=messages)
            undo.callback(ledger.close)
            tasks.observe(*observers)
            tasks.restore()
            undo.pop_all()
        return ledger

    @property
    def durability(self) -> Durability:
        """The durability of acknowledged changes at the chosen `journal_mode` and `synchronous`.

        The defaults guarantee `Durability.POWER_CUT`: wal, truncate and persist at full, all modes at extra. wal at
        normal and delete at full may lose the newest changes in a power cut (`LOSES_NEWEST`); at lower levels a power
        cut may damage the file (`MAY_CORRUPT`). The end of the process alone loses nothing at any level, except a
        database in memory (`NONE`). All this assumes that the disk honours syncs.

        Raises `UsageError` with another store, and `StoreError`.
        """
        if self.database is None:
            raise UsageError("this ledger was given another store, of whose durability nothing is known")
        return self.database.durability

    @property
    def history(self) -> RunHistory:
        """The run history. Raises `UsageError` with another store, which keeps tasks only."""
        if self._history is None:
            raise UsageError("run history needs the ledger's own SQLite store, and this ledger was given another one")
        return self._history

    @property
    def outbox(self) -> Outbox:
        """The messages to deliver. Raises `UsageError` with another store, which keeps tasks only."""
        if self._outbox is None:
            raise UsageError("the outbox needs the ledger's own SQLite store, and this ledger was given another one")
        return self._outbox

    @property
    def workers(self) -> Workers:
        """The workers of the state directory. Raises `UsageError` with another store."""
        return self.history.workers

    def recover(self) -> Recovered:
        """Mark runs in flight whose workers are dead as interrupted; call it at every start. See `ledger.recovery`."""
        return self.history.recover()

    def audit(
        self, *, severity: Severity | str | None = None, code: AuditCode | str | None = None, limit: int | None = None
    ) -> AuditReport:
        """Inconsistent or stale tasks, worst first, at most `limit` findings; the summary counts the whole ledger.

        Read-only: lost work is reported but not marked. Raises `UsageError` with the valid severities and codes, and
        `StoreError`. See `ledger.upkeep.audit`.
        """
        return self._upkeep.audit(severity=severity, code=code, limit=limit)

    def maintenance(self, *, apply: bool = False) -> MaintenanceReport:
        """Mark dead work as lost, prune ended tasks, add missing cleanup dates; only report this unless `apply`.

        Raises `UsageError` inside a batch, and `StoreError`; the changes made before the error stay. See
        `ledger.upkeep.maintenance`.
        """
        return self._upkeep.maintain(apply=apply)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Commit the changes of many calls in one transaction: all of them, or none if it raises.

        A refused call inside (`IllegalTransition`) doesn't affect the batch. After a store error, even a caught one,
        the end of the batch raises `StoreError` and nothing is committed. Other threads wait until the batch ends.
        """
        with self.tasks.batch():
            yield

    def close(self) -> None:
        """Close the store; may be called twice. Raises `UsageError` inside a batch."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False

    def __repr__(self) -> str:
        place: Any = self.database.path if self.database is not None else "another store"
        return f"<Ledger {place}>"
