"""Realistic defects in the ledger, one at a time: a script's call then differs from the model."""

import contextlib
import fcntl
import inspect
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from tornpage import faults, ledger
from tornpage.ledger import (
    TERMINAL,
    IllegalTransition,
    Runtime,
    Status,
    observers,
    registry,
    rules,
    runs,
)
from tornpage.ledger import ledger as ledger_module
from tornpage.ledger import recovery as recovery_module
from tornpage.ledger import workers as worker_locks
from tornpage.ledger.cache import plain, reading
from tornpage.ledger.cache.engine import RegistryEngine
from tornpage.ledger.cache.memory import Memory
from tornpage.ledger.command import group, program
from tornpage.ledger.command import output as output_command
from tornpage.ledger.command import upkeep as upkeep_command
from tornpage.ledger.disk import connections, rows, schema
from tornpage.ledger.disk import database as database_module
from tornpage.ledger.disk import files as files_module
from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.transaction import TouchedRow, Transaction
from tornpage.ledger.history import RunHistory
from tornpage.ledger.outbox import Outbox, legacy, queue
from tornpage.ledger.outbox import recovery as passes
from tornpage.ledger.outbox import rules as outbox_rules
from tornpage.ledger.recovery import Recovery
from tornpage.ledger.registry import TaskRegistry
from tornpage.ledger.rules import creation, lookup, times, transitions, values
from tornpage.ledger.rules.indexes import Indexes
from tornpage.ledger.rules.values import member
from tornpage.ledger.stores import JsonSnapshotStore, MemoryStore
from tornpage.ledger.stores import sqlite as sqlite_store
from tornpage.ledger.stores.store import Change, Snapshot
from tornpage.ledger.upkeep import audit as audit_rules
from tornpage.ledger.upkeep import inspection
from tornpage.ledger.upkeep import maintenance as maintenance_rules
from tornpage.ledger.upkeep import upkeep as upkeep_module
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.search.scripts import play_script
from tornpage.scenarios.targets.reference.scripts import (
    circumstances,
    commands,
    drivers,
    edges,
    hands,
    messages,
    outside,
    tasks,
    together,
    upkeep,
)
from tornpage.scenarios.targets.reference.scripts import runs as run_scripts
from tornpage.scenarios.targets.reference.target import Reference

Patch = Callable[[pytest.MonkeyPatch], object]


def wrong_in(script: Iterable[Any], home: Path) -> str:
    """The code of the first check that a script breaks, "" where all hold."""
    with faults.install() as shim, shim.deterministic():
        _, wrong = play_script(Reference(), Configuration(), tuple(script), home / "store")
    return "" if wrong is None else str(wrong[0])


def put(owner: object, name: str, value: object, *, raising: bool = True) -> Patch:
    return lambda patch: patch.setattr(owner, name, value, raising=raising)


def after(owner: object, name: str, change: Callable[[Any], Any]) -> Patch:
    """The function of that name, with another result."""
    original = getattr(owner, name)
    return put(owner, name, lambda *args, **more: change(original(*args, **more)))


def several(*patches: Patch) -> Patch:
    return lambda patch: [one(patch) for one in patches]


def refuse(*_args: object, **_more: object) -> None:
    raise IllegalTransition("it is over")


def oldest_insertion_first(found: Iterable[Any]) -> list[Any]:
    return sorted(found, key=lambda task: task.created_at, reverse=True)


def without_label(task: Any) -> Any:
    return (None, task.task.strip() or None)


def any_run_may_report(task: Any, _run: str | None = None) -> frozenset[Status]:
    return TERMINAL - {Status.LOST} if task.status == Status.LOST else transitions._NEXT.get(task.status, frozenset())


def refuse_file(_file: object) -> bool:
    return False


def tell_and_fail(listener: Any, arguments: tuple[Any, ...]) -> None:
    listener.method(*arguments)


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


OPEN = os.open


def fence_and_owe_it(self: Any, lay: Any = Database.lay_fence, **how: Any) -> bool:
    lay(self, **how)
    self.fence_owed = True
    return False


def release_and_remove(self: Any, worker_id: str) -> None:
    self.release(worker_id)
    if self._directory is not None:
        self._path(self._directory, worker_id).unlink()


@contextlib.contextmanager
def pass_and_retire(self: Any, worker_id: str | None) -> Iterator[Any]:
    worker = self._workers.hold(worker_id)
    try:
        yield worker
    finally:
        worker.retire()


def run_without_waits_set(
    self: Any, connection: Any, statement: str, *args: Any, run: Any = Database._run, **how: Any
) -> Any:
    return [] if statement == "PRAGMA busy_timeout = 0" else run(self, connection, statement, *args, **how)


def end_if_running(self: Any, transaction: Any, ended: Any, now: int, end: Any = RunHistory._end_task) -> None:
    row = transaction.read(rows.TASKS, ended.task_id)
    if row is not None and rows.TASKS.decode(row).status == Status.RUNNING:
        end(self, transaction, ended, now)


def write_and_check_start(
    self: Any, transaction: Any, run: Any, task: Any, now: int, check: Any = RunHistory._check_start
) -> None:
    transaction.write(rows.TASKS, rows.TASKS.encode(replace(task, label="about to start")))
    check(self, transaction, run, task, now)


def interrupt_and_announce(self: Any, transaction: Any, interrupt: Any = Recovery._interrupt_all) -> Any:
    done = interrupt(self, transaction)
    self.announce(done.interrupted)
    return done


def clean_when_unlocked(self: Any) -> None:
    with self._history.database.transaction() as transaction:
        referenced = {one for find in self._history.worker_references for one in find(transaction)}
    self._history.workers.clean(referenced)


def hold_and_leave_the_file(
    self: Any, path: Path, worker_id: str, hold: Any = worker_locks.Workers._lock_new_file
) -> None:
    try:
        hold(self, path, worker_id)
    except ledger.StoreError:
        path.touch()
        raise


def load_in_doubt(self: Any, load: Any = RegistryEngine._load_memory) -> None:
    was_in_doubt = self._in_doubt
    load(self)
    self._in_doubt = was_in_doubt


def lose_if_due(self: Any, task_id: str) -> bool:
    reason = self._liveness.why_lost((), lambda: self._source.task(task_id))

    def decide(task: Any) -> Any:
        return self._as_lost(task, reason) if self._is_due(task, maintenance_rules.Step.MARK_LOST) else task

    return reason is not None and bool(self._tasks.revise(task_id, decide))


def outdated_by_others(self: Any) -> bool:
    return bool(self._in_doubt or self.backend.version() != self._version)


def replace_by_name(self: Any, content: bytes) -> None:
    new = self.path.with_name("new")
    new.write_bytes(content)
    new.replace(self.path)


def invalidate_what_was_seen(self: Any, session_id: str, reason: str) -> runs.Session:
    session = self.get_session(session_id)
    if session is None:
        raise ledger.NotFound
    changed = runs.invalidated(session, self.clock(), reason)
    with self.database.transaction() as transaction:
        transaction.write(runs.SESSIONS, runs.SESSIONS.encode(changed))
    return changed


def lock_again(self: Any, path: Path, worker_id: str, lock: Any = ledger.Workers._lock_new_file) -> None:
    path.unlink(missing_ok=True)
    lock(self, path, worker_id)


def usable_but_at_the_end(database: Database) -> None:
    if "close" not in {frame.function for frame in inspect.stack()[1:3]}:
        ensure_usable(database)


def migrate_as_first_seen(connection: Any) -> int:
    """As an older version did it: the version is read before the lock is taken, and not again."""
    version = schema.read_version(connection)
    for number in range(version, schema.SCHEMA_VERSION):
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema.MIGRATIONS[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")
    return version


def by_the_first_place(memory: Memory, task_ids: Iterable[str]) -> list[str]:
    places = memory.__dict__.setdefault("places", {})
    for task_id in memory.tasks:
        places.setdefault(task_id, len(places))
    return sorted(task_ids, key=places.__getitem__)


ensure_usable, inspection_chunks = Database.ensure_usable, inspection._chunks


def settle_silently(self: Any, found: Any, settled: Any = RegistryEngine.settled) -> None:
    self._announce = lambda _: None
    settled(self, found)
    del self._announce


def settle_and_keep_the_draft(self: Any, found: Any, settled: Any = RegistryEngine.settled) -> None:
    working = self._working
    settled(self, found)
    self._working = working


def open_again_at_sqlites_level(
    settings: Any, *, check_content: bool, opening: Any = connections.open_connection
) -> Any:
    connection = opening(settings, check_content=check_content)
    if not check_content and settings.synchronous is None:
        connection.execute("PRAGMA synchronous = full")
    return connection


def select_anew(self: Any, table: Any, where: str, parameters: Any = (), select: Any = Transaction.select) -> Any:
    found = select(self, table, where, parameters)
    for row in found:
        key = row[table.key_index]
        self._touched[table.name, key] = TouchedRow(table, key, row)
    return found


def execute_without_doom(self: Any, statement: str, parameters: Any, execute: Any = Transaction._execute) -> Any:
    try:
        return execute(self, statement, parameters)
    except KeyboardInterrupt:
        self._doom = None
        raise


def settle_without_an_interrupt(self: Any, error: Any, settle: Any = Transaction._settle) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        settle(self, error)


def migrate_in_two_steps(connection: Any) -> None:
    version = schema.read_version(connection)
    for number in range(version, schema.SCHEMA_VERSION):
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema.MIGRATIONS[number]:
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA user_version = {number + 1}")


def snapshot_in_order(snapshot: Snapshot) -> Snapshot:
    tasks = {name: times.ordered(task) for name, task in snapshot.tasks.items()}
    return Snapshot(tasks, snapshot.deliveries, snapshot.quarantined)


def replace_and_forget(self: Any, content: bytes, replacing: Any = JsonSnapshotStore._replace) -> None:
    replacing(self, content)
    self._unreadable = ([], [])


DEFECTS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    # Creating.
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
    "acp matches only exactly": (put(creation, "Runtime", type("_", (), {"ACP": "none"})), tasks.same_run),
    "a second create is not merged": (put(rules, "merge", lambda existing, _: existing), tasks.same_run),
    "an error names no argument": (
        put(creation, "member", lambda _name, kind, value: member("it", kind, value)), tasks.refused_creation),
    "an id that is taken is written over": (put(registry, "_refuse_taken", lambda *_: None), tasks.refused_creation),
    "summaries keep their lines": (put(creation, "collapsed", creation.given_text), tasks.creation),
    # Changing.
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
    # Looking.
    "of equals the first inserted comes first": (
        several(put(rules, "newest_first", oldest_insertion_first), put(lookup, "newest_first",
        oldest_insertion_first)),
        tasks.lists),
    "cli goes before the others": (
        put(lookup, "by_preference", lambda found: sorted(found, key=lambda one: one.created_at)), tasks.lists),
    "a fresh list takes the key as it is": (put(reading, "trimmed", lambda _name, key: key), tasks.lists),
    "a child's session is not related": (
        put(Indexes, "by_session", Indexes.by_owner), tasks.lists),
    # Observers.
    "observers do not hear what changed before they were added": (
        after(RegistryEngine, "_unheard", lambda _: []), together.elsewhere),
    "observers do not hear of deletions": (
        put(RegistryEngine, "_announce", lambda self, change: change.task is None or self._observers.upserted(
            change.task, change.previous)), together.batches),
    # Upkeep.
    "stale a millisecond too late": (put(audit_rules, "STALE_QUEUED_MS", 600_001), upkeep.audit),
    "stale a millisecond too early": (put(audit_rules, "STALE_RUNNING_MS", 30 * 60_000 - 1), upkeep.audit),
    "the youngest finding first": (
        put(audit_rules, "order_key", lambda one: (one.severity != "error", one.age_ms or 0, one.created_at)),
        upkeep.filters),
    "the silent are reported, too": (
        put(audit_rules, "NotifyPolicy", type("_", (), {"SILENT": None})), upkeep.audit),
    "lost a millisecond too late": (put(maintenance_rules, "LOST_AFTER_MS", 300_001), upkeep.maintenance),
    "pruned a millisecond too early": (
        after(maintenance_rules, "replace", lambda task: replace(task, cleanup_after=task.cleanup_after - 1)),
        upkeep.maintenance),
    "a hook that fails says that all is lost": (
        put(maintenance_rules.Liveness, "_backing", lambda _, task: task.runtime == Runtime.ACP),
        upkeep.maintenance),
    # Runs.
    "a dead worker may start": (
        put(RunHistory, "_check_start", lambda *_: None), run_scripts.starts),
    "another report of an end is taken": (put(runs, "_refuse_other_result", lambda *_: None), run_scripts.run_ends),
    "a run may end before it begins": (
        put(runs, "finished", lambda run, now, status, end: replace(
            run, status=status, finished_at=end.finished_at or now)),
        run_scripts.run_ends),
    "no skill is no failure": (
        lambda patch: patch.setitem(runs._TASK_STATUS, runs.RunStatus.ABORTED_NO_SKILL, Status.CANCELLED),
        run_scripts.run_ends),
    "recovery says nothing": (put(Recovery, "announce", lambda *_: None), run_scripts.recovery),
    "recovery says everything twice": (
        put(Recovery, "announce", lambda self, found, say=Recovery.announce: [say(self, [one, one]) for one in found]),
        run_scripts.recovery),
    "what is left running is not counted": (
        after(Recovery, "_interrupt_all", lambda done: replace(done, left_running=0)), run_scripts.recovery),
    "a session is opened twice": (
        put(runs, "opened", lambda name, run: runs.Session(name, run.id)), run_scripts.sessions),
    "why a session is invalid is written over": (
        put(runs, "invalidated", lambda session, now, reason: replace(
            session, valid=False, invalidated_at=now, reason=reason)), run_scripts.sessions),
    # Messages.
    "the first wait is the second": (
        put(outbox_rules, "BACKOFF_MS", (25_000, 5_000, 120_000, 600_000)), messages.retries),
    "six attempts": (put(outbox_rules, "MAX_ATTEMPTS", 6), messages.retries),
    "due a millisecond too late": (
        put(outbox_rules, "is_due", lambda one, now: one.next_attempt_at is None or now > one.next_attempt_at),
        messages.retries),
    "a permanent error in capitals is tried again": (
        put(outbox_rules, "is_permanent", lambda text: any(one in text for one in outbox_rules.PERMANENT_ERRORS)),
        messages.permanent),
    "too old a millisecond too early": (
        put(passes.RecoveringQueue, "_is_too_old", lambda _self, one, now, most: outbox_rules.age_ms(one, now) >= most),
        messages.ages),
    "a lease is given twice to one worker": (
        put(queue.MessageQueue, "_sent_by_another", lambda self, one, worker: None if one.leased_by in (
            None, "w", worker) or self._is_free(one) else "another"), messages.endings),
    "a message goes a millisecond too early": (
        put(queue, "_ENDED_SQL", queue._ENDED_SQL.replace("<", "<=")), messages.pruning),
    "a bad count is kept": (
        put(legacy, "_attempts", lambda value: value if isinstance(value, int) else 0), messages.import_files),
    "an envelope counts from nothing": (
        after(passes.RecoveringQueue, "_envelope", lambda one: replace(one, attempt=one.attempt - 1)), messages.passes),
    "an empty budget sends one": (
        put(passes._Budget, "is_spent", lambda self: self._spent_ms > self._budget_ms), messages.passes),
    "a file stays though its message was taken over": (put(legacy, "is_unchanged", refuse_file), messages.import_files),
    # Circumstances.
    "a row that can't be read is left out without a word": (
        put(TaskRegistry, "quarantined", lambda _: ()), circumstances.spoiled_rows),
    "one failing observer silences the others": (put(observers, "_tell", tell_and_fail), circumstances.callbacks),
    "the row is not read again after the hook": (put(TaskRegistry, "cancel", cancel_blindly), circumstances.callbacks),
    "the clock is read twice": (put(TaskRegistry, "start", start_by_two_looks), circumstances.moving_clocks),
    "findings do not fail a command": (put(upkeep_command, "_fails", lambda *_: False), commands.run_commands),
    "an id is used twice": (put(ledger.Workers, "_lock_new_file", lock_again), circumstances.workers),
    "what is not due is not counted": (
        after(passes.RecoveringQueue, "recover", lambda done: replace(done, deferred=0)), messages.retries),
    "a row of another's hand is not put in order": (
        lambda patch: patch.setattr(rows.TASKS, "_normalise", None), circumstances.contradicting_rows),
    "times that contradict each other are put in order first": (
        after(audit_rules, "contradiction", lambda _: None), circumstances.contradicting_rows),
    "what contradicts itself has an age": (
        after(audit_rules, "order_key", lambda key: (key[0], abs(key[1]), key[2])), circumstances.contradicting_rows),
    "a look takes memory as it is": (
        put(TaskRegistry, "find", lambda self, token: self._memory.tasks.get(token.strip())), together.overtaken_looks),
    "a delivery state is looked for in memory as it is": (
        put(TaskRegistry, "get_delivery", lambda self, name: self._memory.deliveries.get(name)),
        together.overtaken_looks),
    "observers hear of a change before memory has it": (
        put(RegistryEngine, "_adopt", lambda self, change, adopt=RegistryEngine._adopt: (
            self._announce(change), adopt(self, change))), circumstances.callbacks),
    "an observer's own call is reported in the middle": (
        put(observers.Observers, "together", lambda _: contextlib.nullcontext()), circumstances.callbacks),
    "the lock is kept while a runtime is asked": (
        put(TaskRegistry, "_ask_to_stop", ask_locked), circumstances.callbacks),
    "no observers at all is no change": (
        put(observers.Observers, "configure", lambda self, found=UNSET, own=observers.Observers.configure: (
            own(self, UNSET if found is None else found))), circumstances.observers),
    "an observer without a method is taken": (put(observers, "_EVENTS", ("__class__",)), circumstances.observers),
    "what is leased may be used again": (
        put(Outbox, "leaseholders", lambda *_: set()), circumstances.workers),
    "two questions at once make a worker live": (
        put(fcntl, "LOCK_SH", fcntl.LOCK_EX), circumstances.workers),
    "what can't be found out is dead": (put(worker_locks, "_presumed_alive", lambda *_: False), circumstances.workers),
    "the worker of a pass leaves its file": (
        put(ledger.Worker, "retire", ledger.Worker.release), circumstances.workers),
    "a file that has changed goes": (put(legacy, "is_unchanged", lambda _: True), messages.changing_files),
    "what was given up is taken over": (
        put(legacy, "files_in", lambda directory: sorted(directory.rglob("*.json"))), messages.changing_files),
    "the budget is looked at once": (
        put(passes._Budget, "is_spent", lambda self: self._budget_ms <= 0), messages.slow_receivers),
    "a clock that jumps back spends the budget": (
        put(passes, "max", lambda _zero, span: abs(span), raising=False), messages.slow_receivers),
    "a message that can't be read is left out without a word": (
        put(Outbox, "quarantined", lambda _: []), messages.spoiled_messages),
    "a program that asks for time is given up": (put(program, "TRY_AGAIN", -1), commands.deliver_programs),
    "the attempt of a dead sender does not count": (
        after(outbox_rules, "taken_over", lambda one: replace(one, attempt_count=one.attempt_count - 1)),
        circumstances.workers),
    "what was due goes whatever has become of it": (
        put(maintenance_rules.Maintenance, "_prune", lambda self, name: self._tasks.revise(name, lambda _: None)),
        upkeep.overtaken_maintenance),
    "a session is looked at before its transaction": (
        put(RunHistory, "invalidate_session", invalidate_what_was_seen), together.overtaken_calls),
    # What is printed, other stores, and openings.
    "what is wide stays wide": (put(files_module, "tighten", lambda _: None), outside.openings),
    "delete runs at full": (put(connections, "default_synchronous", lambda _: "full"), outside.openings),
    "an age is shown in hours only": (put(upkeep_command, "_UNITS", (("h", 3_600), ("s", 1))), outside.shown_commands),
    "a store that can't be used is a refusal": (put(group._CouldNotRun, "exit_code", 1), outside.typed_options),
    "the directory of the environment wins": (
        put(ledger_module, "resolve_state_dir", lambda given: files_module.resolve_state_dir(None)
            if "TORNPAGE_STATE_DIR" in os.environ else files_module.resolve_state_dir(given)), outside.typed_options),
    "who only looks makes the directory": (
        put(upkeep_module, "resolve_state_dir", lambda given: (
            Path(given).mkdir(exist_ok=True), files_module.resolve_state_dir(given))[1]), outside.typed_options),
    "a column has no heading": (put(output_command, "_COLUMNS", ("id", "runtime", "status")), outside.shown_commands),
    "a store gets the live map": (
        put(plain.PlainBackend, "project", lambda _self, view, _changes: view), outside.other_stores),
    "a delivery state is deleted apart": (
        after(plain, "_finest_call", lambda call: call and (call[0].replace("_with_delivery", ""), call[1][:1])),
        outside.other_stores),
    "a store that has done it is not asked": (
        put(plain.PlainUnit, "_same", lambda *_: False), outside.other_stores),
    "a store that can't be asked is believed": (
        after(plain, "from_sqlite", lambda error: error.__class__("it failed", outcome="unchanged")),
        outside.other_stores),
    # A driver that fails twice, and others in the middle of a call.
    "what another has committed is not seen after a fault": (
        after(Database, "version", lambda version: (0, version[1])), drivers.two_faults),
    "a fence that is owed is forgotten at the end": (
        put(Database, "ensure_usable", usable_but_at_the_end), drivers.two_faults),
    "an import is as durable as the rest": (
        put(Outbox, "_durable", lambda _: contextlib.nullcontext()), drivers.durable_imports),
    "another's migration is made again": (put(connections, "migrate", migrate_as_first_seen), drivers.two_openers),
    "who ends the process keeps the message": (put(Outbox, "_give_back", lambda *_: None), messages.ending_receivers),
    "what is no longer due is sent": (put(Outbox, "_why_not_send", lambda *_: None), messages.ending_receivers),
    # Values, and rows of another's hand.
    "memory and its reader share an object": (put(registry, "callers_own", lambda state: state), edges.odd_values),
    "true is taken for 1": (
        put(registry, "same_delivery", lambda one, other: one == other), edges.values_that_python_calls_equal),
    "a task made again keeps its place": (put(Memory, "sorted_ids", by_the_first_place), edges.equal_times),
    "a reason is replaced": (
        after(outbox_rules, "moved_to_failed", lambda one: replace(one, terminal_reason="another")),
        hands.dead_senders),
    "infinity is a payload": (put(outbox_rules, "parse_payload", json.loads), hands.odd_payloads),
    "an audit ends after its first rows": (
        put(inspection, "_chunks", lambda connection: islice(inspection_chunks(connection), 1)),
        circumstances.many_rows),
    "people are shown their own time": (
        put(output_command, "as_utc", lambda time_ms: f"{datetime.fromtimestamp(time_ms / 1000):%Y-%m-%d %H:%M:%SZ}"),
        outside.shown_commands),
    # Observers, and a batch after one that failed.
    "an observer of restores alone is refused": (
        put(observers, "_EVENTS", ("upserted", "deleted")), circumstances.followers),
    "what a failed commit has left is not announced": (
        put(RegistryEngine, "settled", settle_silently), drivers.two_faults),
    "a batch begins with what is left of one that failed": (
        put(RegistryEngine, "settled", settle_and_keep_the_draft), drivers.two_faults),
    "a later connection has SQLite's own level": (
        put(database_module, "open_connection", open_again_at_sqlites_level), drivers.two_faults),
    "an interrupt of a commit that was made is dropped": (
        put(Transaction, "_settle", settle_without_an_interrupt), drivers.interrupts),
    "a row that is read again was always so": (put(Transaction, "select", select_anew), drivers.two_faults),
    "an interrupt that is dropped leaves a batch in parts": (
        put(Transaction, "_execute", execute_without_doom), drivers.interrupts),
    "an outcome of a lost task stays": (
        put(transitions, "outcome_of", lambda status, given: given or (
            "succeeded" if status == "succeeded" else "blocked" if status == "failed" else None)), tasks.by_run),
    # Openings: a mode that can't be switched yet, migrations, and an opening that failed.
    "a switch of the mode is tried once": (put(connections, "BUSY", -1), drivers.locked_switches),
    "a migration forgets a column": (
        put(connections, "migrate", lambda connection: (
            schema.migrate(connection), connection.execute("UPDATE tasks SET label = NULL"))), outside.openings),
    "a migration is two transactions": (put(connections, "migrate", migrate_in_two_steps), drivers.broken_openings),
    # Other stores: rows of another's hand, and their order.
    "times of another store stay as they are": (put(plain, "ordered", lambda task: task), outside.snapshots),
    "an audit of another store is of rows put in order": (
        after(plain.PlainBackend, "load_raw", snapshot_in_order),
        outside.snapshots),
    "what can't be read is kept once": (put(JsonSnapshotStore, "_replace", replace_and_forget), outside.snapshots),
    "a snapshot leaves rows in their places": (
        put(sqlite_store, "_in_place", lambda present, wanted: {*present} & {*wanted}), outside.other_stores),
    "an owner's key is a prefix": (
        put(MemoryStore, "list_for_owner", lambda self, key: [
            task for task in self.tasks.values() if task.owner_key.startswith(key.strip())]), outside.other_stores),
    # Texts, runs, and the budget of a pass.
    "keys are compared in a normal form": (
        put(values, "blank_to_none", lambda text: text and (unicodedata.normalize("NFC", text).strip() or None)),
        edges.forms_of_unicode),
    "a run that can't be read is none": (
        put(RunHistory, "get", lambda self, run_id: next(
            iter(one for one in self.list() if one.id == run_id), None)), circumstances.spoiled_runs),
    "the workers of ended runs count": (
        put(inspection, "_WORKERS", "SELECT task_id, worker_id FROM task_history WHERE TRUE"), upkeep.maintenance),
    "a clock set back gives a pass more time": (
        put(passes._Budget, "is_spent", lambda self: self._clock() - self._last >= self._budget_ms),
        messages.slow_receivers),
    "a fence that was laid is still owed": (put(Database, "lay_fence", fence_and_owe_it), drivers.two_faults),
    "what is not secured is answered": (
        put(Transaction, "_secure_what_was_read", lambda _: None), drivers.unfenced),
    "a retired worker's file outlives its lock": (
        put(worker_locks.Workers, "retire", release_and_remove), circumstances.workers),
    "a pass frees the id that it was given": (
        put(passes.RecoveringQueue, "_passing", pass_and_retire), circumstances.workers),
    "a snapshot is as wide as the umask": (put(JsonSnapshotStore, "_replace", replace_by_name), outside.other_stores),
    "a journal is left as wide as it was": (
        put(files_module, "_SIDE_SUFFIXES", ("-wal", "-shm")), outside.openings),
    "the end waits for other processes": (
        put(Database, "_run", run_without_waits_set), drivers.unfenced),
    "the end of a run ends only what is running": (
        put(RunHistory, "_end_task", end_if_running), run_scripts.recovery),
    "a start is refused after it has written": (
        put(RunHistory, "_check_start", write_and_check_start), together.refused_in_batches),
    "an interrupted run is logged before the commit": (
        several(
            put(Recovery, "_interrupt_all", interrupt_and_announce),
            put(recovery_module._Announcement, "committed", lambda _: None)), run_scripts.recovery),
    "a worker that was refused leaves its file": (
        put(worker_locks.Workers, "_lock_new_file", hold_and_leave_the_file), circumstances.workers),
    "memory stays in doubt after it was loaded": (
        put(RegistryEngine, "_load_memory", load_in_doubt), drivers.two_faults),
    "a task is lost that a run has begun meanwhile": (
        put(maintenance_rules.Maintenance, "_mark_lost", lose_if_due), upkeep.overtaken_maintenance),
    "what was interrupted before memory had it is forgotten": (
        put(RegistryEngine, "_is_outdated", outdated_by_others), drivers.interrupts),
    "a finding without an age is as old as a new one": (
        put(audit_rules, "order_key", lambda one: (
            one.severity is not audit_rules.Severity.ERROR, -(one.age_ms or 0), one.created_at)), upkeep.ages),
    "a file is the same for a second": (
        put(legacy, "_identity", lambda found: (found.st_ino, found.st_size, int(found.st_mtime))),
        messages.changing_files),
    "a file of the same size and time is the same": (
        put(legacy, "_identity", lambda found: (found.st_dev, found.st_size, found.st_mtime_ns)),
        messages.changing_files),
    "files of workers are removed without a lock": (
        put(Recovery, "_clean_workers", clean_when_unlocked), circumstances.workers),
    "a new directory is not synced": (put(files_module, "_sync_directory", lambda _: None), outside.openings),
    "a worker's lock is as wide as the umask": (
        put(worker_locks.os, "open", lambda path, flags, *_: OPEN(path, flags, 0o666)), outside.openings),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_in_the_ledger_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, script = DEFECTS[name]
    patch(monkeypatch)
    assert wrong_in(script(), tmp_path)
