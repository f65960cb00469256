"""Boot recovery: marks runs whose worker died as interrupted, and logs them.

In ONE transaction every running row whose worker is dead becomes ``interrupted``, its sessions invalid and its task
lost, with the reason; so a crash during recovery marks all or none. The transaction holds the write lock while it
checks which workers are alive, and a run can start only under that lock and with a living worker. So no running run is
marked. A second pass, or a pass of another process that waited for the lock, finds the rows ended and ignores them.
After the commit one line per interrupted run is logged on the logger ``ledger.recovery``. They are also logged if the
COMMIT reported an error but the rows are on disk, since no later pass would log them.

Then the lock files of dead workers that no row refers to are removed. If that fails, it is logged, and the next
recovery tries again.

Not covered: restarting the work; its owner decides about that.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from tornpage.ledger import runs
from tornpage.ledger.clock import Clock
from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.rows import Quarantined
from tornpage.ledger.disk.transaction import Found, Transaction
from tornpage.ledger.errors import StoreError
from tornpage.ledger.runs import RUNS, Run, RunEnd, RunStatus
from tornpage.ledger.workers import Workers

WorkerReferences = Callable[[Transaction], Collection[str]]
"""The workers that some rows still refer to; their ids must not be used again."""

_log = logging.getLogger("ledger.recovery")


class Recovered(msgspec.Struct, frozen=True):
    """The result of one recovery.

    The interrupted runs, how many of their sessions became invalid, how many runs have living workers, and the running
    rows that could not be read and were not changed.
    """

    interrupted: tuple[Run, ...] = ()
    sessions_invalidated: int = 0
    left_running: int = 0
    quarantined: tuple[Quarantined, ...] = ()


class Recoverable(Protocol):
    """The parts of a run history that recovery needs."""

    @property
    def database(self) -> Database:
        """The database with the rows."""

    @property
    def clock(self) -> Clock:
        """The time at which a run is marked."""

    @property
    def workers(self) -> Workers:
        """Reports which workers are alive."""

    @property
    def worker_references(self) -> Sequence[WorkerReferences]:
        """Finds the workers that rows refer to."""

    def write_end(self, transaction: Transaction, ended: Run, now: int) -> int:
        """Write the end of a run, its sessions and its task; how many sessions became invalid."""


class Recovery:
    """One pass of recovery over a run history."""

    def __init__(self, history: Recoverable) -> None:
        self._history = history

    def run(self) -> Recovered:
        """Run the recovery. Raises `StoreError`; then no run was marked, or the error's outcome is ``unknown``."""
        database = self._history.database
        with database.lock:
            is_inside_batch = database.active is not None
            with database.transaction() as transaction:
                done = self._interrupt_all(transaction)
                transaction.enlist(_Announcement(self, done))
            if not is_inside_batch:
                self._clean_workers()
        return done

    def _interrupt_all(self, transaction: Transaction) -> Recovered:
        now = self._history.clock()
        in_flight, quarantined = self._in_flight(transaction)
        for one in quarantined:
            _log.error("[recovery] run %s left as it is, its row can't be read: %s", _one_line(one.key), one.reason)
        dead = self._with_dead_worker(in_flight)
        ended = [self._interrupt_run(transaction, run, now) for run in dead]
        return Recovered(
            interrupted=tuple(run for run, _ in ended),
            sessions_invalidated=sum(sessions for _, sessions in ended),
            left_running=len(in_flight) - len(dead),
            quarantined=tuple(quarantined),
        )

    def _in_flight(self, transaction: Transaction) -> tuple[list[Run], list[Quarantined]]:
        """The running rows, in the order in which the runs were recorded."""
        return RUNS.decode_all(transaction.select(RUNS, "status = 'running'"))

    def _with_dead_worker(self, in_flight: Sequence[Run]) -> list[Run]:
        """The runs of dead workers. Each worker is checked once, so that all its runs get the same answer."""
        alive = {worker_id: self._is_alive(worker_id) for worker_id in {run.worker_id for run in in_flight}}
        return [run for run in in_flight if not alive[run.worker_id]]

    def _is_alive(self, worker_id: str) -> bool:
        return self._history.workers.is_alive(worker_id)

    def _interrupt_run(self, transaction: Transaction, run: Run, now: int) -> tuple[Run, int]:
        """Mark one run; returns it and how many sessions became invalid. Its cost and tokens stay unknown."""
        reason = f"worker {run.worker_id} died while run {run.id} was in flight"
        ended = runs.finished(run, now, RunStatus.INTERRUPTED, RunEnd(reason=reason))
        return ended, self._history.write_end(transaction, ended, now)

    def announce(self, interrupted: Iterable[Run]) -> None:
        """Log one line for each run."""
        for run in interrupted:
            _log.warning(
                "[recovery] run %s interrupted: task %s, started %s, worker %s",
                _one_line(run.id),
                _one_line(run.task_id),
                _as_utc(run.started_at),
                run.worker_id,
            )

    def _clean_workers(self) -> None:
        """Remove unreferenced lock files, under the write lock so that no reference appears meanwhile."""
        try:
            with self._history.database.transaction() as transaction:
                referenced = {one for find in self._history.worker_references for one in find(transaction)}
                self._history.workers.clean(referenced)
        except StoreError as error:
            _log.warning("[recovery] lock files of dead workers stay until the next recovery: %s", error)


class _Announcement:
    """Logs the interrupted runs once the transaction has ended."""

    def __init__(self, recovery: Recovery, done: Recovered) -> None:
        self._recovery = recovery
        self._done = done

    def committed(self) -> None:
        """Log all."""
        self._recovery.announce(self._done.interrupted)

    def settled(self, found: Found | None) -> None:
        """Log those whose rows are on disk as interrupted, secured or not."""
        if found is not None:
            self._recovery.announce(
                run for run in self._done.interrupted if found.get((RUNS.name, run.id)) == RUNS.encode(run)
            )
        elif self._done.interrupted:
            names = ", ".join(_one_line(run.id) for run in self._done.interrupted)
            _log.error("[recovery] it is unknown whether these runs were marked as interrupted: %s", names)

    def rolled_back(self) -> None:
        """Log nothing."""


def _as_utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).isoformat(timespec="seconds")


def _one_line(text: str) -> str:
    return " ".join(text.split())
