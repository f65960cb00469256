"""Realistic defects in the calls on tasks, one at a time: a script's call then differs from the model."""

import contextlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from put_into_the_ledger import Patch, after, is_seen, put, several

from tornpage.ledger import (
    TERMINAL,
    IllegalTransition,
    NotifyPolicy,
    Status,
    TerminalOutcome,
    UsageError,
    registry,
    rules,
)
from tornpage.ledger.cache import reading
from tornpage.ledger.registry import TaskRegistry
from tornpage.ledger.rules import creation, lookup, times, transitions, values
from tornpage.ledger.rules.indexes import Indexes
from tornpage.ledger.rules.values import member
from tornpage.ledger.stores.sqlite import SqliteUnit
from tornpage.ledger.stores.store import Change
from tornpage.scenarios.targets.reference.scripts import (
    arguments,
    circumstances,
    drivers,
    edges,
    tasks,
    together,
)


def refuse(*_args: object, **_more: object) -> None:
    raise IllegalTransition("it is over")


def select_any(found: Iterable[Any], key: str | None, select: Any = lookup.select_for_run) -> list[Any]:
    matches = list(found)
    return select(matches, key) or select(matches, None)


def select_by_beginning(found: Iterable[Any], key: str | None, select: Any = lookup.select_for_run) -> list[Any]:
    matches = list(found)
    begun = [one for one in matches if key and (one.child_session_key or "").startswith(key)]
    return begun or select(matches, key)


def fill_a_false_origin(known: Any, task_id: str, origin: Any, merge: Any = creation.merge_delivery) -> Any:
    return merge(known if known is not None and known.requester_origin else None, task_id, origin)


def oldest_insertion_first(found: Iterable[Any]) -> list[Any]:
    return sorted(found, key=lambda task: task.created_at, reverse=True)


def without_wording_of_acp(task: Any, wording: Any = creation._wording) -> Any:
    return None if task.runtime == "acp" else wording(task)


def without_label(task: Any) -> Any:
    return (None, task.task.strip() or None)


def any_run_may_report(task: Any, _run: str | None = None) -> frozenset[Status]:
    return TERMINAL - {Status.LOST} if task.status == Status.LOST else transitions._NEXT.get(task.status, frozenset())


def cancel_blindly(self: Any, task_id: str) -> registry.CancelResult:
    task = self.get(task_id)
    if task is None or task.status in TERMINAL or self._ask_to_stop(task) is not None:
        return registry.CancelResult(task is not None, cancelled=False, reason="no", task=task)
    ended = rules.finish(task, self._clock(), Status.CANCELLED)
    self._change(lambda _unit: (Change(task_id, task=ended, previous=task),))
    return registry.CancelResult(found=True, cancelled=True, task=ended)


def start_by_two_looks(self: Any, task_id: str, started_at: int | None = None) -> Any:
    now = self._clock()
    return self._update(task_id, lambda task: rules.start(task, self._clock(), started_at or now))


def ask_locked(self: Any, task: Any, ask: Any = TaskRegistry._ask_to_stop) -> Any:
    with self._lock:
        return ask(self, task)


def mark_what_was_not_begun(
    self: Any, run_id: str, *, session_key: str | None = None, started_at: int | None = None
) -> Any:
    def rule(task: Any) -> Any:
        may_start = task.status is Status.QUEUED and task.started_at is None
        return rules.start(task, self._clock(), started_at) if may_start else task

    return self._update_run(run_id, session_key, rule)


def with_another_policy(task: Any, now: int, policy: Any, change: Any = rules.with_notify_policy) -> Any:
    return task if task.notify_policy == policy else change(task, now, policy)


def watchers_last(found: Iterable[Any]) -> list[Any]:
    return sorted(found, key=lambda task: (task.runtime in ("cli", "cron"), task.created_at))


def silence_what_is_not_delivered(task: Any, now: int, status: Any, change: Any = rules.with_delivery_status) -> Any:
    changed = change(task, now, status)
    return replace(changed, notify_policy=NotifyPolicy.SILENT) if status == "not_applicable" else changed


def member_in_any_case(name: str, kind: Any, value: Any) -> Any:
    return member(name, kind, value.lower() if isinstance(value, str) else value)


def refuse_what_is_true(request: Any, status: Any, refuse: Any = creation._refuse_terminal_fields) -> None:
    refuse(replace(request, ended_at=request.ended_at or None), status)


def without_the_epoch(task: Any) -> int:
    return times.cleanup_time(replace(task, ended_at=task.ended_at or task.last_event_at))


def with_whole_floats(name: str, value: Any) -> Any:
    return values.optional_time_ms(name, int(value) if isinstance(value, float) else value)


def keep_the_state_that_was_seen(
    self: Any, task_id: str, *, change: Any = TaskRegistry.set_delivery_state, **given: Any
) -> Any:
    known = self.get_delivery(task_id)
    seen = {} if known is None else {"requester_origin": known.requester_origin}
    return change(self, task_id, **{**seen, **given})


def create_unless_known(self: Any, *given: Any, create: Any = TaskRegistry.create, **fields: Any) -> Any:
    if self.get(self._new_id()) is not None:
        raise UsageError("the new id is taken")
    return create(self, *given, **fields)


def change_one_by_one(self: Any, run_id: str, _session_key: str | None, rule: Any) -> list[Any]:
    return [self._update(task.task_id, rule) for task in reversed(self.list_by_run(run_id))]


@contextlib.contextmanager
def look_before_the_lock(self: Any) -> Iterator[None]:
    if not self.backend.writing():
        self._current()
    with self.backend.unit(self):
        yield


DEFECTS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    "a task of cron comes last": (put(lookup, "by_preference", watchers_last), tasks.each_member),
    "a runtime is asked to stop what is lost": (
        put(registry, "TERMINAL", TERMINAL - {Status.LOST}), tasks.each_member),
    "what needs no delivery is silent": (
        put(rules, "with_delivery_status", silence_what_is_not_delivered), lambda: tasks.transitions("queued")),
    "a task whose start is known is not started by its run": (
        put(TaskRegistry, "mark_running_by_run", mark_what_was_not_begun), lambda: tasks.transitions("queued")),
    "the same policy is no event": (
        put(rules, "with_notify_policy", with_another_policy), lambda: tasks.transitions("failed")),
    "a terminal task is created without a date to go": (put(creation, "TERMINAL", frozenset()), tasks.creation),
    "the end of an active task is taken": (
        put(creation, "_refuse_terminal_fields", lambda *_: None), tasks.refused_creation),
    "the last event of a new task is now": (
        after(creation, "_times", lambda found: {**found, "last_event_at": 1_700_000_000_000}), tasks.creation),
    "system tasks are to be delivered": (
        put(creation, "default_delivery_status", lambda *_: creation.DeliveryStatus.PENDING), tasks.parties),
    "done tasks alone notify by default": (
        put(creation, "default_notify_policy", lambda _: creation.NotifyPolicy.DONE_ONLY), tasks.parties),
    "the label is no part of a match": (put(creation, "_wording", without_label), tasks.same_run),
    "of two acp tasks the older one matches": (put(creation, "_wording", without_wording_of_acp), tasks.same_run),
    "one field stays blank": (
        put(creation, "_FILLED_BY_MERGE", tuple(
            one for one in creation._FILLED_BY_MERGE if one != "requester_agent_id")), tasks.same_run),
    "acp matches only exactly": (put(creation, "Runtime", type("_", (), {"ACP": "none"})), tasks.same_run),
    "a second create is not merged": (put(rules, "merge", lambda existing, _: existing), tasks.same_run),
    "an error names no argument": (
        put(creation, "member", lambda _name, kind, value: member("it", kind, value)), tasks.refused_creation),
    "a whole number of another type is a time": (
        put(transitions, "optional_time_ms", with_whole_floats), edges.whole_numbers_of_another_type),
    "a run has a second task beside one that can't be read": (
        put(registry, "_refuse_unknown", lambda *_: None), circumstances.spoiled_rows),
    "of two keys that are equal as text one is kept": (put(values, "with_each_key", dict), edges.odd_values),
    "an id that is taken is written over": (put(registry, "_refuse_taken", lambda *_: None), tasks.refused_creation),
    "summaries keep their lines": (put(creation, "collapsed", creation.given_text), tasks.creation),
    "terminal tasks take no progress": (put(rules, "progress", refuse), lambda: tasks.transitions("failed")),
    "any run may say how a lost task ended": (
        put(transitions, "allowed_next", any_run_may_report), lambda: tasks.transitions("lost")),
    "a running task starts again": (
        lambda patch: patch.setitem(transitions._NEXT, Status.RUNNING, TERMINAL | {Status.RUNNING}),
        lambda: tasks.transitions("running")),
    "a queued task can't end": (
        lambda patch: patch.setitem(transitions._NEXT, Status.QUEUED, frozenset({Status.RUNNING})),
        lambda: tasks.transitions("queued")),
    "the end takes no outcome": (put(transitions, "outcome_of", lambda *_: None), lambda: tasks.transitions("running")),
    "lost tasks stay a week": (
        put(times, "LOST_RETENTION_MS", times.RETENTION_MS), lambda: tasks.transitions("running")),
    "the notify policy is no event": (
        put(rules, "with_notify_policy", lambda task, _now, policy: replace(task, notify_policy=policy)),
        lambda: tasks.transitions("queued")),
    "a missing task is an illegal transition": (
        put(registry, "NotFound", IllegalTransition), tasks.refused_creation),
    "a runtime that refuses is not heard": (put(TaskRegistry, "_ask_to_stop", lambda *_: None), tasks.creation),
    "an owner's match wins": (
        put(rules, "select_for_run", lambda found, key: [one for one in found if one.owner_key == key]), tasks.by_run),
    "an ambiguous run finds all tasks": (put(rules, "select_for_run", lambda found, _key: list(found)), tasks.by_run),
    "of equals the first inserted comes first": (
        several(put(rules, "newest_first", oldest_insertion_first), put(lookup, "newest_first",
        oldest_insertion_first)),
        tasks.lists),
    "cli goes before the others": (
        put(lookup, "by_preference", lambda found: sorted(found, key=lambda one: one.created_at)), tasks.lists),
    "a fresh list takes the key as it is": (put(reading, "trimmed", lambda _name, key: key), tasks.lists),
    "a child's session is not related": (
        put(Indexes, "by_session", Indexes.by_owner), tasks.lists),
    "a row that can't be read is left out without a word": (
        put(TaskRegistry, "quarantined", lambda _: ()), circumstances.spoiled_rows),
    "the row is not read again after the hook": (put(TaskRegistry, "cancel", cancel_blindly), circumstances.callbacks),
    "the clock is read twice": (put(TaskRegistry, "start", start_by_two_looks), circumstances.moving_clocks),
    "a look takes memory as it is": (
        put(TaskRegistry, "find", lambda self, token: self._memory.tasks.get(token.strip())), together.overtaken_looks),
    "a delivery state is looked for in memory as it is": (
        put(TaskRegistry, "get_delivery", lambda self, name: self._memory.deliveries.get(name)),
        together.overtaken_looks),
    "the lock is kept while a runtime is asked": (
        put(TaskRegistry, "_ask_to_stop", ask_locked), circumstances.callbacks),
    "memory and its reader share an object": (put(registry, "callers_own", lambda state: state), edges.odd_values),
    "true is taken for 1": (
        put(registry, "same_delivery", lambda one, other: one == other), edges.values_that_python_calls_equal),
    "an outcome of a lost task stays": (
        put(transitions, "outcome_of", lambda status, given: given or (
            "succeeded" if status == "succeeded" else "blocked" if status == "failed" else None)), tasks.by_run),
    "keys are compared in a normal form": (
        put(values, "blank_to_none", lambda text: text and (unicodedata.normalize("NFC", text).strip() or None)),
        edges.forms_of_unicode),
    "a look does not wait for another thread's batch": (
        put(reading.TaskReader, "get", lambda self, name: self._current().tasks.get(name)), drivers.two_threads),
    "a session that has no part in a run means all of it": (
        put(rules, "select_for_run", select_any), edges.nothing_matches),
    "an origin that is false is none": (put(rules, "merge_delivery", fill_a_false_origin), edges.empty_but_there),
    "a session is known by its beginning": (put(rules, "select_for_run", select_by_beginning), edges.nothing_matches),
    "what is blocked has succeeded": (
        put(transitions, "outcome_of", lambda status, given: (
            TerminalOutcome.SUCCEEDED if status == "succeeded" else given)), lambda: tasks.transitions("running")),
    "an event comes before its task": (
        put(rules, "with_delivery_status", lambda task, now, status: replace(
            task, delivery_status=status, last_event_at=now)), tasks.times),
    "a delivery state is read before its transaction": (
        put(TaskRegistry, "set_delivery_state", keep_the_state_that_was_seen), together.overtaken_updates),
    "a new id is looked for before its transaction": (
        several(put(registry, "_refuse_taken", lambda *_: None), put(TaskRegistry, "create", create_unless_known)),
        together.overtaken_updates),
    "the delivery state of a change is that of memory": (
        put(SqliteUnit, "read_delivery", lambda self, name: self._follower.owner._memory.deliveries.get(name)),
        together.overtaken_updates),
    "the tasks of a run are changed one by one": (
        put(TaskRegistry, "_update_run", change_one_by_one), together.overtaken_updates),
    "a batch looks for others' changes before it has the lock": (
        put(TaskRegistry, "batch", look_before_the_lock), together.overtaken_updates),
    "an end at the epoch is none": (
        put(creation, "_refuse_terminal_fields", refuse_what_is_true), edges.times_of_creation),
    "the date of an end at the epoch is that of another time": (
        put(creation, "cleanup_time", without_the_epoch), edges.times_of_creation),
    "an enumeration is taken in any case": (
        put(creation, "member", member_in_any_case), arguments.members_in_another_form),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_seen(DEFECTS[name], tmp_path, monkeypatch)
