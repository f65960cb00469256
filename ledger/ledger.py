"""The ledger: one place to open it, and what hangs on it.

`Ledger.open` opens (and where needed makes) the database in a state directory, restores the tasks and hands back a
ledger; `close` it, or use it as a context manager. With the same clock and the same `new_id` the same calls make the
same rows, byte for byte.

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
    """What can't be told counts as alive."""
    return True


class Ledger:
    """An open ledger; make one with `open`.

    `tasks` is the task registry; `database` is the open database, None where another store was given.
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

        `state_dir`: else TORNPAGE_STATE_DIR, else the platform's user state directory; ``:memory:`` keeps everything
        in memory. `journal_mode`: wal, delete, truncate or persist, to which an existing file is switched; by default
        it keeps its own, and a new one gets wal. `synchronous`: off, normal, full or extra; default full, for delete
        extra; what a lower one gives up is said by `durability`. `busy_timeout_ms`: how long to wait for another
        process's lock. `connect`: all SQLite connections come from it. `store`: another `TaskStore` in the place of
        SQLite; it keeps tasks only. `workers`: who tells which workers live; by default the locks in the state
        directory.
        `session_hooks`: who tells whether a session still backs a task without a worker.
        `observers`: who is told what was restored, now and later, and of every change; see `ledger.observers`.

        Raises `StoreError` (and leaves nothing open) where the file can't be used or can't be read as a whole, and
        `UsageError`.
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
        """What becomes of acknowledged changes at the chosen `journal_mode` and `synchronous`.

        `Durability.POWER_CUT`, the promise, holds at the defaults: wal, truncate and persist at full, everything at
        extra. wal at normal and delete at full may lose the newest changes in a power cut (`LOSES_NEWEST`); below
        that it may damage the file (`MAY_CORRUPT`). The end of a process alone loses nothing at any level; only a
        database in memory ends with it (`NONE`). Whether the disk does what it is told is not known here.

        Raises `UsageError` where another store was given, and `StoreError`.
        """
        if self.database is None:
            raise UsageError("this ledger was given another store, of whose durability nothing is known")
        return self.database.durability

    @property
    def history(self) -> RunHistory:
        """The run history. Raises `UsageError` where another store was given, which keeps tasks only."""
        if self._history is None:
            raise UsageError("run history needs the ledger's own SQLite store, and this ledger was given another one")
        return self._history

    @property
    def outbox(self) -> Outbox:
        """The messages to deliver. Raises `UsageError` where another store was given, which keeps tasks only."""
        if self._outbox is None:
            raise UsageError("the outbox needs the ledger's own SQLite store, and this ledger was given another one")
        return self._outbox

    @property
    def workers(self) -> Workers:
        """The workers of the state directory. Raises `UsageError` where another store was given."""
        return self.history.workers

    def recover(self) -> Recovered:
        """Mark runs in flight whose workers are dead as interrupted; call it at every start. See `ledger.recovery`."""
        return self.history.recover()

    def audit(
        self, *, severity: Severity | str | None = None, code: AuditCode | str | None = None, limit: int | None = None
    ) -> AuditReport:
        """What is wrong with the tasks, worst first, at most `limit` findings; the summary counts the whole ledger.

        Read-only: work that is lost is reported as such and not marked. Raises `UsageError` naming the valid severities
        and codes, and `StoreError`. See `ledger.upkeep.audit`.
        """
        return self._upkeep.audit(severity=severity, code=code, limit=limit)

    def maintenance(self, *, apply: bool = False) -> MaintenanceReport:
        """Mark dead work as lost, prune what is over, give a date to what lacks one; only say so unless `apply`.

        Raises `UsageError` inside a batch, and `StoreError`; what was done before it stays. See
        `ledger.upkeep.maintenance`.
        """
        return self._upkeep.maintain(apply=apply)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Commit the changes of many calls in one transaction: all of them, or none where it raises.

        A call refused inside (`IllegalTransition`) spoils nothing; a store error does, even where it was caught: then
        leaving the batch raises `StoreError`. Other threads wait until the batch is over.
        """
        with self.tasks.batch():
            yield

    def close(self) -> None:
        """Let go of the store; twice is fine. Raises `UsageError` inside a batch."""
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
