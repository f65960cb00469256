"""The run history: what was tried, by which worker, with what result; and the agent sessions of the runs.

Each change is one transaction that also changes the run's task: a task is never running without a recorded run, and a
run never ends while its task is still running (claude-hooks issue 1107). Nothing is kept in memory: reads are plain
queries, and inside a batch they see its changes. `ledger.runs` defines the effect of each change.

Each step of a change is a separate method: `_write_start`, `_write_end`, `_start_task`, `_end_task`,
`_invalidate_sessions`. Every refusal is raised before the first write, so that a refusal doesn't doom a batch.

Not covered: removing old history; there is no use for it yet.
"""

import builtins
from collections.abc import Callable
from typing import Final

from tornpage.ledger import runs
from tornpage.ledger.clock import Clock
from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.rows import TASKS, Quarantined, Unreadable
from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.errors import IllegalTransition, NotFound
from tornpage.ledger.records import JsonValue, Task
from tornpage.ledger.recovery import Recovered, Recovery, WorkerReferences
from tornpage.ledger.registry import TaskRegistry
from tornpage.ledger.rules.values import checked_id, given_text, member, optional_time_ms, time_ms, trimmed
from tornpage.ledger.runs import RUNS, SESSIONS, Run, RunEnd, RunStart, RunStatus, Session
from tornpage.ledger.workers import Workers, checked_worker_id


class RunHistory:
    """Runs and sessions, by id. Safe to share between threads."""

    recovery: type[Recovery] = Recovery

    def __init__(
        self, database: Database, tasks: TaskRegistry, workers: Workers, *, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self.database: Final = database
        self.workers: Final = workers
        self.clock: Final = clock
        self._tasks = tasks
        self.worker_references: Final[builtins.list[WorkerReferences]] = [self._workers_of_running_rows]
        self._new_id = new_id

    # A run's life

    def start(
        self,
        task_id: str,
        *,
        worker_id: str,
        run_id: str | None = None,
        started_at: int | None = None,
        repo: str | None = None,
        issue_number: int | None = None,
        user: str | None = None,
        agent: str | None = None,
        agent_type: str | None = None,
        model: str | None = None,
        provider: str | None = None,
    ) -> Run:
        """Record a run and mark its queued task as running, in one transaction.

        The run's id is the given one, else the task's run id, else a new one; the task gets the same id. `started_at`
        is in milliseconds since the epoch, default now. The worker must be alive (`Workers.hold`): recovery would mark
        the run of a dead worker as interrupted.

        Raises `NotFound`, `IllegalTransition` (the task isn't queued or is another run's, the run has a row already,
        the worker is dead), `UsageError`, `StoreError`.
        """
        checked_id("task_id", task_id)
        worker = checked_worker_id(worker_id)
        start = runs.checked_start(RunStart(repo, issue_number, user, agent, agent_type, model, provider))
        wanted, given = trimmed("run_id", run_id), optional_time_ms("started_at", started_at)
        with self.database.transaction() as transaction:
            task = self._existing_task(transaction, task_id)
            chosen = wanted or trimmed("run_id", task.run_id) or checked_id("the new id", self._new_id())
            now = self.clock()
            since = given if given is not None else time_ms("now", now)
            run = runs.started(chosen, task_id, worker, since, start)
            self._check_start(transaction, run, task, now)
            self._start_task(run, now)
            self._write_start(transaction, run)
        return run

    def finish(
        self,
        run_id: str,
        status: RunStatus | str,
        *,
        finished_at: int | None = None,
        cost_usd: float | None = None,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        turns: int | None = None,
        artifacts: JsonValue = None,
        reason: str | None = None,
    ) -> Run:
        """Record a run's end and end its task, in one transaction.

        `ledger.runs` says how the task ends; a task that has ended or was deleted stays unchanged. An interrupted run's
        sessions become invalid. `finished_at` is in milliseconds since the epoch, default now. The same result again
        has no effect; another result, or other details with the same status, is refused.

        Raises `NotFound`, `IllegalTransition`, `UsageError`, `StoreError`.
        """
        checked_id("run_id", run_id)
        wanted = runs.checked_result(status)
        end = runs.checked_end(RunEnd(finished_at, cost_usd, tokens_in, tokens_out, turns, artifacts, reason))
        with self.database.transaction() as transaction:
            run = self._existing_run(transaction, run_id)
            now = self.clock()
            ended = runs.finished(run, now, wanted, end)
            if ended is not run:
                self.write_end(transaction, ended, now)
        return ended

    def recover(self) -> Recovered:
        """Find the runs in flight whose workers are dead and mark them as interrupted; see `ledger.recovery`."""
        return self.recovery(self).run()

    # Sessions

    def open_session(self, run_id: str, session_id: str | None = None) -> Session:
        """Record a session of a running run, with a new id if none is given.

        The same session of the same run again has no effect. Raises `NotFound`, `IllegalTransition` (the run has
        ended, the session is invalid or belongs to another run), `UsageError`, `StoreError`.
        """
        checked_id("run_id", run_id)
        chosen = session_id if session_id is not None else self._new_id()
        with self.database.transaction() as transaction:
            session = runs.opened(chosen, self._existing_run(transaction, run_id))
            row = transaction.read(SESSIONS, session.session_id)
            if row is None:
                transaction.write(SESSIONS, SESSIONS.encode(session))
            elif SESSIONS.decode(row) != session:
                raise IllegalTransition(f"session {session.session_id} is invalid or another run's")
        return session

    def invalidate_session(self, session_id: str, reason: str) -> Session:
        """Make a session invalid permanently; an already invalid one keeps its time and reason.

        Raises `NotFound`, `UsageError`, `StoreError`.
        """
        checked_id("session_id", session_id)
        why = given_text("reason", reason)
        with self.database.transaction() as transaction:
            row = transaction.read(SESSIONS, session_id)
            if row is None:
                raise NotFound(f"there is no session {session_id!r}")
            session = runs.invalidated(SESSIONS.decode(row), self.clock(), why)
            transaction.write(SESSIONS, SESSIONS.encode(session))
        return session

    # Reading

    def get(self, run_id: str) -> Run | None:
        """The run with this id, or None.

        Raises `StoreCorrupt` if its row can't be read, and `UsageError`.
        """
        checked_id("run_id", run_id)
        rows = self.database.select(RUNS, "id = ?", (run_id,))
        return RUNS.decode(rows[0]) if rows else None

    def list(
        self, *, status: RunStatus | str | None = None, task_id: str | None = None, worker_id: str | None = None
    ) -> builtins.list[Run]:
        """The readable runs, newest start first (of equal ones, the last recorded first). Raises `UsageError`."""
        return self.read(status=status, task_id=task_id, worker_id=worker_id)[0]

    def read(
        self, *, status: RunStatus | str | None = None, task_id: str | None = None, worker_id: str | None = None
    ) -> tuple[builtins.list[Run], builtins.list[Quarantined]]:
        """The runs as `list` returns them, and the rows that can't be read."""
        wanted = member("status", RunStatus, status) if status is not None else None
        given_text("task_id", task_id)
        given_text("worker_id", worker_id)
        conditions = [
            # A literal condition, since SQLite uses the partial index of the running rows only for this exact text.
            ("status = 'running'", ()) if wanted is RunStatus.RUNNING else ("status = ?", (wanted,)),
            ("task_id = ?", (task_id,)),
            ("worker_id = ?", (worker_id,)),
        ]
        given = [one for one, value in zip(conditions, (wanted, task_id, worker_id), strict=True) if value is not None]
        where = " AND ".join(text for text, _ in given) or "TRUE"
        parameters = [str(value) for _, values in given for value in values]
        found, quarantined = RUNS.decode_all(self.database.select(RUNS, where, parameters))
        found.reverse()
        found.sort(key=lambda run: run.started_at, reverse=True)
        return found, quarantined

    def find(self, token: str) -> Run | None:
        """The run that a token means: a run id, else a task id, which means its newest run."""
        wanted = trimmed("token", token)
        if wanted is None:
            return None
        found = self.get(wanted)
        return found if found is not None else next(iter(self.list(task_id=wanted)), None)

    def running_workers(self) -> dict[str, str]:
        """Which worker each task with a run in flight has: task ids to worker ids."""
        return {run.task_id: run.worker_id for run in self.list(status=RunStatus.RUNNING)}

    def get_session(self, session_id: str) -> Session | None:
        """The session with this id, or None. Raises `UsageError`, `StoreError`."""
        checked_id("session_id", session_id)
        rows = self.database.select(SESSIONS, "session_id = ?", (session_id,))
        return SESSIONS.decode(rows[0]) if rows else None

    def list_sessions(self, run_id: str | None = None) -> builtins.list[Session]:
        """The readable sessions, of one run where given, in the order of their opening. Raises `UsageError`."""
        given_text("run_id", run_id)
        where, parameters = ("TRUE", ()) if run_id is None else ("run_id = ?", (run_id,))
        return SESSIONS.decode_all(self.database.select(SESSIONS, where, parameters))[0]

    # The steps of a change; recovery uses them too, inside its own transaction

    def write_end(self, transaction: Transaction, ended: Run, now: int) -> int:
        """Write a run's end, its task's end and its sessions; returns how many sessions became invalid."""
        self._write_end(transaction, ended)
        invalidated = 0
        if ended.status is RunStatus.INTERRUPTED:
            invalidated = self._invalidate_sessions(transaction, ended, now)
        self._end_task(transaction, ended, now)
        return invalidated

    def _write_start(self, transaction: Transaction, run: Run) -> None:
        transaction.write(RUNS, RUNS.encode(run))

    def _write_end(self, transaction: Transaction, ended: Run) -> None:
        transaction.write(RUNS, RUNS.encode(ended))

    def _start_task(self, run: Run, now: int) -> None:
        self._tasks.change(run.task_id, lambda task: runs.with_task_started(task, now, run))

    def _end_task(self, transaction: Transaction, ended: Run, now: int) -> None:
        """End the task, if it still exists and can be read."""
        row = transaction.read(TASKS, ended.task_id)
        if row is None:
            return
        try:
            TASKS.decode(row)
        except Unreadable:  # no fault: no search damages a row.
            # The task is reported as quarantined; the run's end must be recorded nevertheless.
            return
        self._tasks.change(ended.task_id, lambda task: runs.with_task_ended(task, now, ended))

    def _invalidate_sessions(self, transaction: Transaction, ended: Run, now: int) -> int:
        """Make the run's sessions invalid; returns how many were valid.

        Works on undecoded rows, since a session that can't be decoded must not stay valid.
        """
        rows = transaction.select(SESSIONS, "run_id = ? AND valid <> 0", (ended.id,))
        for row in rows:
            cells = dict(zip(SESSIONS.columns, row, strict=True))
            cells.update(valid=0, invalidated_at=now, reason=runs.error_of(ended))
            transaction.write(SESSIONS, tuple(cells.values()))
        return len(rows)

    def _check_start(self, transaction: Transaction, run: Run, task: Task, now: int) -> None:
        """Raise `IllegalTransition` if the run may not start; called before the first write."""
        if transaction.read(RUNS, run.id) is not None:
            raise IllegalTransition(f"run {run.id} is on record already; another attempt needs another run id")
        runs.with_task_started(task, now, run)
        if not self.workers.is_alive(run.worker_id):
            raise IllegalTransition(f"worker {run.worker_id} is not alive and can't start a run; hold it first")

    @staticmethod
    def _workers_of_running_rows(transaction: Transaction) -> set[str]:
        """Read from undecoded rows, since the workers of unreadable rows count too."""
        column = RUNS.columns.index("worker_id")
        return {str(row[column]) for row in transaction.select(RUNS, "status = 'running'")}

    @staticmethod
    def _existing_task(transaction: Transaction, task_id: str) -> Task:
        row = transaction.read(TASKS, task_id)
        if row is None:
            raise NotFound(f"there is no task {task_id!r}")
        return TASKS.decode(row)

    @staticmethod
    def _existing_run(transaction: Transaction, run_id: str) -> Run:
        row = transaction.read(RUNS, run_id)
        if row is None:
            raise NotFound(f"there is no run {run_id!r}")
        return RUNS.decode(row)
