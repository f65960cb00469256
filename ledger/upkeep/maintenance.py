"""Maintenance: taking dead work for lost, pruning what is over, giving a date to what lacks one.

Per task the first that applies: *mark lost* (active, without an event for five minutes, and nothing works on it),
*prune* (over, and its cleanup_after has come), *stamp* (over, without a cleanup_after). One pass looks through all rows
without loading them, then changes the tasks one by one: each is read again in a transaction of its own and judged anew,
so that what happened meanwhile is kept, and a pass that is cut short has done only whole steps. A preview does the same
without the second half.

The run of a lost task stays in the history as it is until `recover`, which says of it that it was interrupted. The
rules follow openclaw's pull request 57361. Not covered: when maintenance runs; somebody calls it.
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
"""How long an active task must be without an event before anybody asks whether something still works on it."""


class Step(StrEnum):
    """What maintenance does to a task."""

    MARK_LOST = "mark_lost"
    PRUNE = "prune"
    STAMP = "stamp"


class MaintenanceReport(msgspec.Struct, frozen=True):
    """What was done, or (`applied` false) would be: tasks marked as lost, deleted, given a cleanup_after.

    `checkpointed`: whether the WAL was copied into the database as a whole; None where that wasn't tried.
    """

    applied: bool
    reconciled: int
    pruned: int
    stamped: int
    checkpointed: bool | None = None


def due_step(task: Task | AuditedTask, now: int) -> Step | None:
    """What may be due for a task, times in order. Marking it as lost is due only if nothing works on it, too."""
    if task.status not in TERMINAL:
        return Step.MARK_LOST if age_ms(task, now) >= LOST_AFTER_MS else None
    if task.cleanup_after is None:
        return Step.STAMP
    return Step.PRUNE if now >= task.cleanup_after else None


def as_lost(task: Task, now: int, reason: str) -> Task:
    """The task as lost; an error that it has stays."""
    return rules.finish(task, now, Status.LOST, error=task.error or reason)


def presumed_lost(source: TaskSource, liveness: Liveness, now: int) -> Mapping[str, str]:
    """Tasks on which nothing works, with the reason, by task id; only those of them that are due are lost.

    Asks workers and session hooks, so call it without any lock.
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
    """Audit every task as maintenance would leave it: lost ones are projected, nothing is written."""
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
    """What a pass would do now; nothing is written."""
    lost = presumed_lost(source, liveness, now)
    return _report(Counter(step for _, step in _due(source, now, lost.__contains__)), applied=False)


class Maintenance:
    """One pass over the tasks of a registry. Each step is a method of its own."""

    def __init__(self, tasks: TaskRegistry, source: TaskSource, liveness: Liveness, now: int) -> None:
        self._tasks: Final = tasks
        self._source: Final = source
        self._liveness: Final = liveness
        self._now: Final = now

    def apply(self) -> MaintenanceReport:
        """Do it, a transaction for each task. A `StoreError` ends the pass; what was done before stays."""
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
        # A run starts and ends in the transaction that changes its task, so as long as the task is what it was, what
        # its worker or its session hook has told is still about this very work.
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
    """The tasks for which something is due, in insertion order."""
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
