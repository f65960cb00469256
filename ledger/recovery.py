"""Boot recovery: finding what was in flight when its worker died, and saying so.

In ONE transaction every running row whose worker is dead becomes ``interrupted``, its sessions invalid and its task
lost, with the reason; so a crash in the middle flags all or none. The transaction holds the write lock while it asks
which workers live, and a run can only start under that lock by a living worker, so no run that is alive is taken for
dead. A second pass, or one in another process that waited for the lock, finds the rows ended and leaves them alone.
After the commit each interrupted run is one line on the logger ``ledger.recovery``; also where the COMMIT reported an
error and the rows are there all the same, since no later pass would find anything to say.

Then the lock files of dead workers that no row refers to are removed. That is housekeeping: where it fails it is logged
and tried by the next recovery.

Not covered: restarting the work, which is for its owner to decide.
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
    """What one recovery did.

    The runs it interrupted, how many of their sessions became invalid, how many runs were left to their living
    workers, and the running rows that could not be read and were left as they are.
    """

    interrupted: tuple[Run, ...] = ()
    sessions_invalidated: int = 0
    left_running: int = 0
    quarantined: tuple[Quarantined, ...] = ()


class Recoverable(Protocol):
    """What recovery needs of a run history: the rows, the time, who lives, and how the end of a run is written."""

    @property
    def database(self) -> Database:
        """Where the rows are."""

    @property
    def clock(self) -> Clock:
        """The time of a flag."""

    @property
    def workers(self) -> Workers:
        """Who lives."""

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
        """Do it. Raises `StoreError`; then nothing was flagged, or the error says ``unknown``."""
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
        """The running rows, in the order in which the runs were put on record."""
        return RUNS.decode_all(transaction.select(RUNS, "status = 'running'"))

    def _with_dead_worker(self, in_flight: Sequence[Run]) -> list[Run]:
        """Each worker is asked about once, so that all its runs get the same answer."""
        alive = {worker_id: self._is_alive(worker_id) for worker_id in {run.worker_id for run in in_flight}}
        return [run for run in in_flight if not alive[run.worker_id]]

    def _is_alive(self, worker_id: str) -> bool:
        return self._history.workers.is_alive(worker_id)

    def _interrupt_run(self, transaction: Transaction, run: Run, now: int) -> tuple[Run, int]:
        """Flag one run; returns it and how many sessions became invalid. Its cost and tokens stay unknown."""
        reason = f"worker {run.worker_id} died while run {run.id} was in flight"
        ended = runs.finished(run, now, RunStatus.INTERRUPTED, RunEnd(reason=reason))
        return ended, self._history.write_end(transaction, ended, now)

    def announce(self, interrupted: Iterable[Run]) -> None:
        """One line of the log for each run."""
        for run in interrupted:
            _log.warning(
                "[recovery] run %s interrupted: task %s, started %s, worker %s",
                _one_line(run.id),
                _one_line(run.task_id),
                _as_utc(run.started_at),
                run.worker_id,
            )

    def _clean_workers(self) -> None:
        """Remove lock files that nothing refers to, under the write lock so that no reference appears meanwhile."""
        try:
            with self._history.database.transaction() as transaction:
                referenced = {one for find in self._history.worker_references for one in find(transaction)}
                self._history.workers.clean(referenced)
        except StoreError as error:
            _log.warning("[recovery] lock files of dead workers stay until the next recovery: %s", error)


class _Announcement:
    """Says which runs were interrupted, once that is so."""

    def __init__(self, recovery: Recovery, done: Recovered) -> None:
        self._recovery = recovery
        self._done = done

    def committed(self) -> None:
        """Say all."""
        self._recovery.announce(self._done.interrupted)

    def settled(self, found: Found | None) -> None:
        """Say those whose rows are on disk as this pass meant to leave them, secured or not."""
        if found is not None:
            self._recovery.announce(
                run for run in self._done.interrupted if found.get((RUNS.name, run.id)) == RUNS.encode(run)
            )
        elif self._done.interrupted:
            names = ", ".join(_one_line(run.id) for run in self._done.interrupted)
            _log.error("[recovery] nobody can tell yet whether these runs were marked as interrupted: %s", names)

    def rolled_back(self) -> None:
        """Say nothing."""


def _as_utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).isoformat(timespec="seconds")


def _one_line(text: str) -> str:
    return " ".join(text.split())
