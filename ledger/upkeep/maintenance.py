"""Maintenance: marks dead work as lost, prunes ended tasks, adds missing cleanup dates.

Per task the first step that applies: *mark lost* (active, without an event for five minutes, and no worker or session
runs it), *prune* (ended, and its cleanup_after has passed), *stamp* (ended, without a cleanup_after). One pass iterates
over all rows without loading them, then changes the tasks one by one: each is read and checked again in a separate
transaction, so changes made meanwhile are kept, and an interrupted pass has made only complete steps. A preview makes
no changes.

The run of a lost task stays unchanged in the history until `recover` marks it as interrupted. The rules follow
openclaw's pull request 57361. Not covered: scheduling; the caller decides when maintenance runs.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from tornpage.ledger import rules
from tornpage.ledger.records import TERMINAL, Status, Task
from tornpage.ledger.registry import TaskRegistry
from tornpage.ledger.upkeep.audit import Audit, AuditedTask, AuditFilters, AuditReport, age_ms, projected
from tornpage.ledger.upkeep.inspection import Liveness, TaskSource

LOST_AFTER_MS: Final = 5 * 60_000
"""How long an active task must be without an event before its worker or session is checked."""


class Step(StrEnum):
    """The steps of maintenance."""

    MARK_LOST = "mark_lost"
    PRUNE = "prune"
    STAMP = "stamp"


class MaintenanceReport(msgspec.Struct, frozen=True):
    """The numbers of tasks that were (or, if not `applied`, would be) marked as lost, deleted, given a cleanup_after.

    `checkpointed`: whether the whole WAL was copied into the database; None if that wasn't tried.
    """

    applied: bool
    reconciled: int
    pruned: int
    stamped: int
    checkpointed: bool | None = None


def due_step(task: Task | AuditedTask, now: int) -> Step | None:
    """The step that may be due for a task, times in order; mark lost also needs that no worker or session runs it."""
    if task.status not in TERMINAL:
        return Step.MARK_LOST if age_ms(task, now) >= LOST_AFTER_MS else None
    if task.cleanup_after is None:
        return Step.STAMP
    return Step.PRUNE if now >= task.cleanup_after else None


def as_lost(task: Task, now: int, reason: str) -> Task:
    """The task as lost; an error that it has stays."""
    return rules.finish(task, now, Status.LOST, error=task.error or reason)


def presumed_lost(source: TaskSource, liveness: Liveness, now: int) -> Mapping[str, str]:
    """The due tasks that no worker or session runs, with the reason, by task id.

    Checks workers and session hooks, so call it without any lock.
    """
    workers = source.workers()
    candidates = dict.fromkeys(workers)
    if liveness.has_session_hooks:

        def visit(row: AuditedTask) -> None:
            if due_step(rules.ordered(row), now) is Step.MARK_LOST:
                candidates[row.task_id] = None

        source.scan(visit)
    reasons = {}
    for task_id in candidates:
        reason = liveness.why_lost(workers.get(task_id, ()), partial(source.task, task_id))
        if reason is not None:
            reasons[task_id] = reason
    return reasons


def audit(
    source: TaskSource, liveness: Liveness, filters: AuditFilters, now: int, collect: type[Audit] = Audit
) -> AuditReport:
    """Audit every task as maintenance would leave it: lost tasks are projected, nothing is written."""
    reasons = presumed_lost(source, liveness, now)
    collected = collect(filters, now)

    def visit(row: AuditedTask) -> None:
        task = rules.ordered(row)
        reason = reasons.get(row.task_id)
        if reason is not None and due_step(task, now) is Step.MARK_LOST:
            task = projected(row, now, reason)
        collected.take(row, task)

    return collected.report(source.scan(visit))


def preview(source: TaskSource, liveness: Liveness, now: int) -> MaintenanceReport:
    """The report of a pass without its changes; nothing is written."""
    lost = presumed_lost(source, liveness, now)
    return _report(Counter(step for _, step in _due(source, now, lost.__contains__)), applied=False)


class Maintenance:
    """One pass over the tasks of a registry. Each step is a separate method."""

    def __init__(self, tasks: TaskRegistry, source: TaskSource, liveness: Liveness, now: int) -> None:
        self._tasks: Final = tasks
        self._source: Final = source
        self._liveness: Final = liveness
        self._now: Final = now

    def apply(self) -> MaintenanceReport:
        """Make the changes, one transaction per task. A `StoreError` ends the pass; earlier changes stay."""
        act: Mapping[Step, Callable[[str], bool]] = {
            Step.MARK_LOST: self._mark_lost,
            Step.PRUNE: self._prune,
            Step.STAMP: self._stamp,
        }
        workers = self._source.workers()
        due = _due(self._source, self._now, lambda task_id: task_id in workers or self._liveness.has_session_hooks)
        counts: Counter[Step] = Counter()
        for task_id, step in due:
            counts[step] += act[step](task_id)
        return _report(counts, applied=True)

    def _is_due(self, task: Task, step: Step) -> bool:
        return due_step(task, self._now) is step

    def _mark_lost(self, task_id: str) -> bool:
        # A run starts and ends in the transaction that changes its task. So if the task is unchanged, the answer of its
        # worker or session hook is still about the same run.
        seen = self._source.task(task_id)
        reason = self._liveness.why_lost(self._source.workers(task_id).get(task_id, ()), lambda: seen)
        if reason is None:
            return False

        def decide(task: Task) -> Task:
            due = task == seen and self._is_due(task, Step.MARK_LOST)
            return self._as_lost(task, reason) if due else task

        return self._tasks.revise(task_id, decide)

    def _as_lost(self, task: Task, reason: str) -> Task:
        return as_lost(task, self._now, reason)

    def _prune(self, task_id: str) -> bool:
        return self._tasks.revise(task_id, lambda task: None if self._is_due(task, Step.PRUNE) else task)

    def _stamp(self, task_id: str) -> bool:
        def decide(task: Task) -> Task:
            return replace(task, cleanup_after=rules.cleanup_time(task)) if self._is_due(task, Step.STAMP) else task

        return self._tasks.revise(task_id, decide)


def _due(source: TaskSource, now: int, may_be_lost: Callable[[str], bool]) -> Sequence[tuple[str, Step]]:
    """The tasks with a due step, in insertion order."""
    due: list[tuple[str, Step]] = []

    def visit(row: AuditedTask) -> None:
        step = due_step(rules.ordered(row), now)
        if step is not None and (step is not Step.MARK_LOST or may_be_lost(row.task_id)):
            due.append((row.task_id, step))

    source.scan(visit)
    return due


def _report(counts: Counter[Step], *, applied: bool) -> MaintenanceReport:
    return MaintenanceReport(
        applied=applied, reconciled=counts[Step.MARK_LOST], pruned=counts[Step.PRUNE], stamped=counts[Step.STAMP]
    )
