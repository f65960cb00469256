"""The public task API: creating, changing and deleting tasks, on top of reading them (`ledger.cache.reading`).

`ledger.rules` defines the effect of a change, `ledger.cache.engine` carries it out. Every method that changes data
raises `StoreError` if the store failed; then nothing has changed, or the error's outcome is ``unknown``. It raises
`UsageError`, before any read, for an id that is not text or not valid Unicode.

Not covered: lost work and pruning; see `ledger.upkeep.maintenance`.
"""

import builtins
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from tornpage.ledger import rules
from tornpage.ledger.cache.reading import TaskReader, callers_own
from tornpage.ledger.clock import Clock
from tornpage.ledger.disk.rows import Quarantined, Unreadable
from tornpage.ledger.errors import IllegalTransition, NotFound, UsageError
from tornpage.ledger.records import (
    TERMINAL,
    DeliveryState,
    DeliveryStatus,
    JsonValue,
    NotifyPolicy,
    Runtime,
    Status,
    Task,
    TerminalOutcome,
)
from tornpage.ledger.rules.values import (
    checked_id,
    given_text,
    json_value,
    member,
    optional_time_ms,
    same_delivery,
    trimmed,
)
from tornpage.ledger.stores.store import Backend, Change, TaskStore, Unit

ControlHook = Callable[[Task], bool | None]
"""Asks a runtime to stop a task's work; False means that it refused, any other value that it agreed."""

Rule = Callable[[Task], Task]
"""Computes the new record from the row as it was read inside the unit of work."""

# Computed once: it takes longer than the rest of a call.
_NEW_TASK_FIELDS: Final = {field.name: field.required for field in msgspec.structs.fields(rules.NewTask)}
_NEEDED: Final = [name for name, required in _NEW_TASK_FIELDS.items() if required]


class CancelResult(msgspec.Struct, frozen=True):
    """The result of a cancel: whether the task exists, whether this call cancelled it, why not, and the task now."""

    found: bool
    cancelled: bool
    reason: str | None = None
    task: Task | None = None


class TaskRegistry(TaskReader):
    """Tasks, by id, run, owner, flow and session. Safe to share between threads."""

    def __init__(
        self,
        store: TaskStore | Backend,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        control_hooks: Mapping[Runtime, ControlHook] | None = None,
    ) -> None:
        super().__init__(store)
        self._clock = clock
        self._new_id = new_id
        self._control_hooks = dict(control_hooks or {})

    # Creating

    def create(
        self, request: rules.NewTask | None = None, *, requester_origin: JsonValue = None, **fields: Any
    ) -> Task:
        """Create a task, or return the one that the same run already has (with its missing fields filled in).

        Pass a `NewTask` or its fields. Raises `UsageError`, also if the new id is taken, and `StoreError`: `Unreadable`
        if a task of the run can't be read, and no other one is it.
        """
        wanted = _request(request, fields)
        made = rules.new_task(wanted, task_id=checked_id("the new id", self._new_id()), now=self._clock())
        origin = json_value("requester_origin", requester_origin)
        result = made

        def compute(unit: Unit) -> Sequence[Change]:
            nonlocal result
            candidates, unreadable = unit.tasks_of_run(made.run_id) if made.run_id is not None else ((), ())
            existing = rules.find_match(made, candidates)
            if existing is None:
                _refuse_taken(unit, made.task_id)
                _refuse_unknown(unreadable, made.run_id)
            result = made if existing is None else rules.merge(existing, made)
            delivery: DeliveryState | UnsetType = UNSET
            if origin is not None:
                known = unit.read_delivery(result.task_id) if existing is not None else None
                merged = rules.merge_delivery(known, result.task_id, origin)
                delivery = merged if merged is not None and merged is not known else UNSET
            task: Task | UnsetType = UNSET if result is existing else result
            if task is UNSET and delivery is UNSET:
                return ()
            return (Change(result.task_id, task=task, previous=existing, delivery=delivery),)

        self._change(compute)
        return result

    # Observers

    def observe(self, *observers: object) -> None:
        """Replace the observers; see `ledger.observers`. Raises `UsageError`."""
        with self._lock:
            self._observers.configure(observers)

    def configure_observers(self, observers: Iterable[object] | UnsetType | None = UNSET) -> None:
        """Replace the observers; None clears them, omitting the argument keeps them. Raises `UsageError`."""
        with self._lock:
            self._observers.configure(observers)

    # Changing one task

    def start(self, task_id: str, *, started_at: int | None = None) -> Task:
        """Queued → running. Raises `NotFound`, `IllegalTransition`."""
        return self._update(task_id, lambda task: rules.start(task, self._clock(), started_at))

    def progress(self, task_id: str, text: str) -> Task:
        """Record the work's progress; allowed in any status. Raises `NotFound`."""
        return self._update(task_id, lambda task: rules.progress(task, self._clock(), text))

    def finish(
        self,
        task_id: str,
        status: Status | str,
        *,
        ended_at: int | None = None,
        error: str | None = None,
        terminal_summary: str | None = None,
        terminal_outcome: TerminalOutcome | str | None = None,
        run_id: str | None = None,
    ) -> Task:
        """Queued or running → terminal; lost → its real end, if `run_id` is the task's own.

        Raises `NotFound`, `IllegalTransition`, `UsageError`.
        """
        report = {
            "ended_at": ended_at,
            "error": error,
            "terminal_summary": terminal_summary,
            "terminal_outcome": terminal_outcome,
        }
        return self._update(task_id, self._finishing(status, run_id, report))

    def set_notify_policy(self, task_id: str, policy: NotifyPolicy | str) -> Task:
        """Choose the events of which the requester is notified. Raises `NotFound`, `UsageError`."""
        chosen = member("policy", NotifyPolicy, policy)
        return self._update(task_id, lambda task: rules.with_notify_policy(task, self._clock(), chosen))

    def set_delivery_status(self, task_id: str, status: DeliveryStatus | str) -> Task:
        """Record whether the requester was notified. Raises `NotFound`, `UsageError`."""
        chosen = member("status", DeliveryStatus, status)
        return self._update(task_id, lambda task: rules.with_delivery_status(task, self._clock(), chosen))

    def set_delivery_state(
        self,
        task_id: str,
        *,
        requester_origin: JsonValue | UnsetType = UNSET,
        last_notified_event_at: int | UnsetType | None = UNSET,
    ) -> DeliveryState:
        """Write a task's delivery state; omitted fields stay unchanged. The answer's origin is a copy.

        Raises `NotFound`, `UsageError`.
        """
        checked_id("task_id", task_id)
        patch: dict[str, Any] = {}
        if requester_origin is not UNSET:
            patch["requester_origin"] = json_value("requester_origin", requester_origin)
        if last_notified_event_at is not UNSET:
            patch["last_notified_event_at"] = optional_time_ms("last_notified_event_at", last_notified_event_at)
        state = DeliveryState(task_id)

        def compute(unit: Unit) -> Sequence[Change]:
            nonlocal state
            _existing(unit, task_id)
            known = unit.read_delivery(task_id)
            state = msgspec.structs.replace(known or DeliveryState(task_id), **patch)
            return () if same_delivery(state, known) else (Change(task_id, delivery=state),)

        self._change(compute)
        return callers_own(state)

    def delete(self, task_id: str) -> Task:
        """Delete a task and its delivery state in one transaction; returns the deleted task. Raises `NotFound`."""
        checked_id("task_id", task_id)
        gone: Task | None = None

        def compute(unit: Unit) -> Sequence[Change]:
            nonlocal gone
            gone = _existing(unit, task_id)
            return (Change(task_id, task=None, previous=gone, delivery=None),)

        self._change(compute)
        if gone is None:
            raise NotFound(f"there is no task {task_id!r}")
        return gone

    def cancel(self, task_id: str) -> CancelResult:
        """Ask the runtime to stop the work, then record it as cancelled.

        For cli tasks it is only recorded. The row is read again after the runtime has answered: if the work ended
        meanwhile, that end stays. Raises `StoreError` (`Unreadable` if its row can't be read), and `UsageError` for an
        invalid id; a refusal is in the result.
        """
        task = self.get(task_id)
        if task is None:
            return CancelResult(found=False, cancelled=False, reason="there is no such task")
        if task.status in TERMINAL:
            return _not_cancelled(f"it is already {task.status}", task)
        refusal = self._ask_to_stop(task)
        if refusal is not None:
            return _not_cancelled(refusal, self.get(task_id))
        try:
            return CancelResult(found=True, cancelled=True, task=self.finish(task_id, Status.CANCELLED))
        except NotFound:  # no fault: it takes another process that deletes the task just now.
            return CancelResult(found=False, cancelled=False, reason="it was deleted meanwhile")
        except IllegalTransition:  # no fault: it takes another process that ends the task just now.
            now = self.get(task_id)
            ended = now.status if now is not None else "deleted"
            return _not_cancelled(f"it became {ended} meanwhile", now)

    def revise(self, task_id: str, decide: Callable[[Task], Task | None]) -> bool:
        """Read a task again in a transaction and replace it by the result of `decide`: itself: no change, None: delete.

        Returns whether something changed; a missing or unreadable task is ignored. For `ledger.upkeep.maintenance`.
        """
        changes: builtins.list[Change] = []

        def compute(unit: Unit) -> Sequence[Change]:
            with contextlib.suppress(Unreadable):
                task = unit.read_task(task_id)
                result = decide(task) if task is not None else None
                if result != task:
                    delivery = UNSET if result is not None else None
                    changes.append(Change(task_id, task=result, previous=task, delivery=delivery))
            return changes

        self._change(compute)
        return bool(changes)

    # Changing the tasks of a run

    def mark_running_by_run(
        self, run_id: str, *, session_key: str | None = None, started_at: int | None = None
    ) -> builtins.list[Task]:
        """Start the queued tasks of a run; running and ended tasks stay unchanged. Returns the changed ones."""

        def rule(task: Task) -> Task:
            return rules.start(task, self._clock(), started_at) if Status.RUNNING in rules.allowed_next(task) else task

        return self._update_run(run_id, session_key, rule)

    def progress_by_run(self, run_id: str, text: str, *, session_key: str | None = None) -> builtins.list[Task]:
        """Record progress on the tasks of a run. Returns the changed ones."""
        return self._update_run(run_id, session_key, lambda task: rules.progress(task, self._clock(), text))

    def finalize_by_run(
        self,
        run_id: str,
        status: Status | str,
        *,
        session_key: str | None = None,
        ended_at: int | None = None,
        error: str | None = None,
        terminal_summary: str | None = None,
        terminal_outcome: TerminalOutcome | str | None = None,
    ) -> builtins.list[Task]:
        """End the tasks of a run, also lost ones; other ended tasks stay unchanged. Returns the changed ones."""
        wanted = rules.terminal_status(status)
        report = {
            "ended_at": ended_at,
            "error": error,
            "terminal_summary": terminal_summary,
            "terminal_outcome": terminal_outcome,
        }
        finishing = self._finishing(wanted, run_id, report)

        def rule(task: Task) -> Task:
            is_final = task.status in TERMINAL and wanted not in rules.allowed_next(task, run_id)
            return task if is_final else finishing(task)

        return self._update_run(run_id, session_key, rule)

    # For the other parts of the ledger

    def change(self, task_id: str, rule: Rule) -> Task:
        """Replace a task by the result of a rule. Raises `NotFound` and the rule's errors."""
        return self._update(task_id, rule)

    # Helpers

    def _update(self, task_id: str, rule: Rule) -> Task:
        checked_id("task_id", task_id)
        result: Task | None = None

        def compute(unit: Unit) -> Sequence[Change]:
            nonlocal result
            task = _existing(unit, task_id)
            result = rule(task)
            return (Change(task_id, task=result, previous=task),) if result != task else ()

        self._change(compute)
        if result is None:
            raise NotFound(f"there is no task {task_id!r}")
        return result

    def _update_run(self, run_id: str, session_key: str | None, rule: Rule) -> builtins.list[Task]:
        run = trimmed("run_id", run_id)
        given_text("session_key", session_key)
        changes: builtins.list[Change] = []
        if run is None:
            return []

        def compute(unit: Unit) -> Sequence[Change]:
            for task in rules.select_for_run(unit.tasks_of_run(run)[0], session_key):
                result = rule(task)
                if result != task:
                    changes.append(Change(task.task_id, task=result, previous=task))
            return changes

        self._change(compute)
        return [change.task for change in changes if isinstance(change.task, Task)]

    def _finishing(self, status: Status | str, run_id: str | None, report: Mapping[str, Any]) -> Rule:
        """The rule that ends a task; the arguments are checked here, before any row is read."""
        wanted = rules.terminal_status(status)
        given_text("run_id", run_id)
        checked = dict(report)
        if checked["terminal_outcome"] is not None:
            checked["terminal_outcome"] = member("terminal_outcome", TerminalOutcome, checked["terminal_outcome"])
        return lambda task: rules.finish(task, self._clock(), wanted, run_id=run_id, **checked)

    def _ask_to_stop(self, task: Task) -> str | None:
        """Why the runtime doesn't stop the work, None if it agreed. Called without the lock."""
        if task.runtime is Runtime.CLI:
            return None
        hook = self._control_hooks.get(task.runtime)
        if hook is None:
            return f"nothing here controls the runtime {task.runtime}"
        try:
            agreed = hook(task)
        # no fault: the hook is foreign code; those of a search raise nothing.
        except Exception as error:  # noqa: BLE001 - a hook is foreign code; its failure is an answer.
            return f"the runtime could not be asked: {error}"
        return "the runtime refused" if agreed is False else None


def _request(request: rules.NewTask | None, fields: Mapping[str, Any]) -> rules.NewTask:
    """The given request, or one made from the given fields."""
    if request is not None:
        if fields:
            raise UsageError(f"give a NewTask or fields, not both: {', '.join(fields)}")
        if not isinstance(request, rules.NewTask):
            raise UsageError(f"request must be a NewTask, not {request!r}")
        return request
    unknown = [name for name in fields if name not in _NEW_TASK_FIELDS]
    if unknown:
        raise UsageError(f"a new task has no {', '.join(unknown)}; allowed are {', '.join(_NEW_TASK_FIELDS)}")
    missing = [name for name in _NEEDED if name not in fields]
    if missing:
        raise UsageError(f"a new task needs {', '.join(missing)}")
    return rules.NewTask(**fields)


def _refuse_taken(unit: Unit, task_id: str) -> None:
    """Refuse a new id that has a row, even an unreadable one: creating the task would overwrite it."""
    try:
        taken = unit.read_task(task_id) is not None
    except Unreadable:  # no fault: no search damages a row.
        taken = True
    if taken:
        raise UsageError(f"the new id {task_id!r} is taken; nothing was written")


def _refuse_unknown(unreadable: Sequence[Quarantined], run_id: str | None) -> None:
    """Refuse a new task of a run that has one that can't be read: nothing tells whether it is the same task."""
    if unreadable:
        names = ", ".join(repr(one.key) for one in unreadable)
        raise Unreadable(f"run {run_id!r} has a task that can't be read, and it may be this one: {names}")


def _existing(unit: Unit, task_id: str) -> Task:
    task = unit.read_task(task_id)
    if task is None:
        raise NotFound(f"there is no task {task_id!r}")
    return task


def _not_cancelled(reason: str, task: Task | None) -> CancelResult:
    return CancelResult(found=task is not None, cancelled=False, reason=reason, task=task)
