"""The model is a second source: the ledger agrees with it, and realistic defects in the ledger don't."""

import ast
import contextlib
import fcntl
import inspect
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
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
from tornpage.ledger import workers as worker_locks
from tornpage.ledger.cache import plain, reading
from tornpage.ledger.cache.engine import RegistryEngine
from tornpage.ledger.command import group, ledger_group, program
from tornpage.ledger.command import output as output_command
from tornpage.ledger.command import upkeep as upkeep_command
from tornpage.ledger.disk import connections, rows
from tornpage.ledger.disk import files as files_module
from tornpage.ledger.history import RunHistory
from tornpage.ledger.outbox import Outbox, legacy, queue
from tornpage.ledger.outbox import recovery as passes
from tornpage.ledger.outbox import rules as outbox_rules
from tornpage.ledger.recovery import Recovery
from tornpage.ledger.registry import TaskRegistry
from tornpage.ledger.rules import creation, lookup, times, transitions
from tornpage.ledger.rules.indexes import Indexes
from tornpage.ledger.stores.store import Change
from tornpage.ledger.upkeep import audit as audit_rules
from tornpage.ledger.upkeep import maintenance as maintenance_rules
from tornpage.ledger.upkeep import upkeep as upkeep_module
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.search.scripts import play_script
from tornpage.scenarios.targets.reference import lockstep
from tornpage.scenarios.targets.reference import model as model_package
from tornpage.scenarios.targets.reference.scripts import (
    Script,
    circumstances,
    commands,
    messages,
    outside,
    scripts,
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


@pytest.mark.slow
def test_the_ledger_does_in_every_script_what_the_model_says(tmp_path: Path) -> None:
    assert [wrong_in(one, tmp_path / f"{number}") for number, one in enumerate(scripts())] == [""] * len(scripts())


@pytest.mark.parametrize("script", [together.elsewhere, together.batches, upkeep.audit])
def test_the_ledger_does_what_the_model_says(script: Callable[[], Script], tmp_path: Path) -> None:
    assert wrong_in(script(), tmp_path) == ""


def test_the_model_takes_nothing_from_the_ledger() -> None:
    for file in Path(inspect.getfile(model_package)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] in {
                    "collections", "dataclasses", "datetime", "hashlib", "json", "math", "re", "typing", "tornpage",
                }, file  # fmt: skip
                assert not name.startswith("tornpage") or "targets.reference.model" in name, file


def test_every_function_of_the_model_cites_its_section_or_says_that_there_is_none() -> None:
    """Those that a call comes to; helpers are part of what they help."""
    for name, rule in model_package.ACTIONS.items():
        doc = inspect.getdoc(rule) or ""
        assert doc, name
        if rule.__module__.endswith(("tasks", "runs", "outbox", "upkeep")):
            assert re.search(r"§\d|[Nn]ot in the specification", doc), name


def test_what_differs_is_said_and_not_all_that_is_compared() -> None:
    one, other = {"task_id": "a", "status": "queued", "label": None}, {"task_id": "b", "status": "lost", "label": None}
    assert lockstep._parted([one, other], [other, one]) == (["a", "b"], ["b", "a"])
    assert lockstep._parted([one], [one | {"label": "x"}]) == ({"label": None}, {"label": "x"})
    assert lockstep._parted({"count": 1, "tasks": [one]}, {"count": 2, "tasks": []}) == (
        {"count": 1, "tasks": ["a"]},
        {"count": 2, "tasks": []},
    )
    assert lockstep._parted(3, None) == (3, None)


# -- every public name -----------------------------------------------------------------------------------------

# What no action calls, and why; each is covered elsewhere.
NOT_CALLED = {
    "tasks.observe": "the action observers.life",
    "tasks.configure_observers": "the action observers.life",
    "tasks.restore": "the action observers.life",
    "tasks.revise": "maintenance calls it",
    "tasks.change": "the run history calls it",
    "tasks.batch": "the action batch",
    "tasks.view": "the session's checks call it",
    "tasks.joined": "a backend calls it",
    "tasks.committed": "a backend calls it",
    "tasks.settled": "a backend calls it",
    "tasks.rolled_back": "a backend calls it",
    "history.recover": "the action recover",
    "history.write_end": "recovery calls it",
    "outbox.leaseholders": "recovery calls it",
}


def test_every_public_method_of_the_ledger_is_an_action_or_says_why_not() -> None:
    parts = {"tasks": TaskRegistry, "history": RunHistory, "outbox": Outbox}
    public = {
        f"{part}.{name}"
        for part, kind in parts.items()
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    public |= {
        f"workers.{name}" for name, _ in inspect.getmembers(ledger.Workers, inspect.isfunction) if name[0] != "_"
    }
    public |= {name for name in vars(ledger.Ledger) if not name.startswith("_")} - {*parts, "open", "close"}
    # The calls of one action are on real workers.
    called = {
        f"workers.{one[0]}"
        for script in scripts()
        for call in script
        if call.name == "workers.life"
        for one in call.args["calls"]
    }
    covered = {"batch", "durability", "workers", *called, *model_package.ACTIONS, *NOT_CALLED}
    assert sorted(public - covered) == []
    assert sorted(NOT_CALLED.keys() - public) == []


def test_every_command_of_the_ledger_is_typed_in_a_script() -> None:
    def paths(group: click.Group) -> Iterable[tuple[str, ...]]:
        for name, command in group.commands.items():
            inner = list(paths(command)) if isinstance(command, click.Group) else [()]
            yield from ((name, *one) for one in inner)

    typed = {tuple(one.args["argv"][:2]) for script in scripts() for one in script if one.name == "command"}
    there = set(paths(ledger_group)) - {("runs", "recover")}  # the same command as recover
    assert sorted(one for one in there if not any(argv[: len(one)] == one for argv in typed)) == []


# -- defects ---------------------------------------------------------------------------------------------------


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


DEFECTS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    # Creating.
    "a terminal task is created without a date to go": (put(creation, "TERMINAL", frozenset()), tasks.creation),
    "the end of an active task is taken": (
        put(creation, "_refuse_terminal_fields", lambda *_: None), tasks.refused_creation),
    "the last event of a new task is now": (
        after(creation, "_times", lambda found: {**found, "last_event_at": 1_700_000_000_000}), tasks.creation),
    "system tasks are to be delivered": (
        put(creation, "default_delivery_status", lambda *_: creation.DeliveryStatus.PENDING), tasks.parties),
    "everybody is told": (
        put(creation, "default_notify_policy", lambda _: creation.NotifyPolicy.DONE_ONLY), tasks.parties),
    "the label is no part of a match": (put(creation, "_wording", without_label), tasks.same_run),
    "acp matches only exactly": (put(creation, "Runtime", type("_", (), {"ACP": "none"})), tasks.same_run),
    "a second create is not merged": (put(rules, "merge", lambda existing, _: existing), tasks.same_run),
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
    "nobody is found where nobody is": (
        put(registry, "NotFound", IllegalTransition), tasks.refused_creation),
    "a runtime that refuses is not heard": (put(TaskRegistry, "_ask_to_stop", lambda *_: None), tasks.creation),
    "an owner's match wins": (
        put(rules, "select_for_run", lambda found, key: [one for one in found if one.owner_key == key]), tasks.by_run),
    "an ambiguous run is everybody's": (put(rules, "select_for_run", lambda found, _key: list(found)), tasks.by_run),
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
    "nobody hears what was before": (
        after(RegistryEngine, "_unheard", lambda _: []), together.elsewhere),
    "nobody hears of what is deleted": (
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
    "one observer's failure is everybody's": (put(observers, "_tell", tell_and_fail), circumstances.callbacks),
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
    "observers are told before memory knows": (
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
    "an age is told in hours alone": (put(upkeep_command, "_UNITS", (("h", 3_600), ("s", 1))), outside.shown_commands),
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
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_in_the_ledger_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, script = DEFECTS[name]
    patch(monkeypatch)
    assert wrong_in(script(), tmp_path)


@pytest.mark.parametrize("effect", ["EINTR", "EACCES", "EIO"])
def test_a_file_of_the_old_queue_that_a_fault_keeps_is_no_answer_of_the_ledgers_own(effect: str, home: Path) -> None:
    """The message is taken over, its file stays, and the caller is told so; the model knows of no faults."""
    old = [
        Action("legacy_file", {"name": f"{one}.json", "content": {"id": one, "channel": "mail", "to": "you"}})
        for one in "ab"
    ]
    imports = Call(Action("outbox.import_legacy"))
    steps = (*map(Call, old), Arm(f"file-unlink:.json@1={effect}"), imports, Clear(), imports)
    with faults.install() as shim, shim.deterministic():
        violation, counts = play(Scenario("reference", Configuration(), steps), Reference(), home)
    assert (violation, counts["fired"]) == (None, 1)
