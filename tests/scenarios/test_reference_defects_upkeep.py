"""Realistic defects in audit, maintenance and commands, one at a time: a script's call then differs from the model."""

import contextlib
import os
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from msgspec.structs import replace
from put_into_the_ledger import Patch, after, is_seen, put

from tornpage.ledger import Runtime, registry
from tornpage.ledger import ledger as ledger_module
from tornpage.ledger.command import group, program
from tornpage.ledger.command import outbox as outbox_command
from tornpage.ledger.command import output as output_command
from tornpage.ledger.command import tasks as tasks_command
from tornpage.ledger.command import upkeep as upkeep_command
from tornpage.ledger.disk import files as files_module
from tornpage.ledger.outbox import DeliveryFailed, Outbox
from tornpage.ledger.rules.values import trimmed
from tornpage.ledger.upkeep import audit as audit_rules
from tornpage.ledger.upkeep import inspection
from tornpage.ledger.upkeep import maintenance as maintenance_rules
from tornpage.ledger.upkeep import upkeep as upkeep_module
from tornpage.scenarios.targets.reference.scripts import (
    circumstances,
    commands,
    hands,
    outside,
    upkeep,
)


def lose_if_due(self: Any, task_id: str) -> bool:
    reason = self._liveness.why_lost((), lambda: self._source.task(task_id))

    def decide(task: Any) -> Any:
        return self._as_lost(task, reason) if self._is_due(task, maintenance_rules.Step.MARK_LOST) else task

    return reason is not None and bool(self._tasks.revise(task_id, decide))


def print_and_forget(report: Any, *, as_json: bool, tell: Any = outbox_command._print_report) -> None:
    tell(report, as_json=as_json)
    if all(one.imported for one in report.problems):
        click.get_current_context().exit(0)


def age_without_start(task: Any, now: int) -> int:
    return int(max(0, now - (task.created_at if task.last_event_at is None else task.last_event_at)))


def missing_but_of_cancelled(task: Any, *args: Any, find: Any = audit_rules._missing_cleanup) -> Any:
    return None if task.status == "cancelled" else find(task, *args)


def without_unreadable(_kind: object) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


class Everything:
    """Equal to anything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, _: object) -> bool:
        return True


def blank_is_everything(name: str, value: str | None) -> Any:
    return trimmed(name, value) or Everything()


def audit_with_own_patience(
    *place: Any, busy_timeout_ms: int, audit: Any = upkeep_command.audit_file, **how: Any
) -> Any:
    return audit(*place, **how)


def of_any_error(message: str, *, permanent: bool | None = None) -> DeliveryFailed:
    return DeliveryFailed(message, permanent=permanent or None)


def ask_and_read(self: Any, task_id: str) -> bool:
    workers = self._source.workers(task_id).get(task_id, ())
    reason = self._liveness.why_lost(workers, lambda: self._source.task(task_id))
    seen = self._source.task(task_id)

    def decide(task: Any) -> Any:
        is_due = task == seen and self._is_due(task, maintenance_rules.Step.MARK_LOST)
        return self._as_lost(task, reason) if is_due else task

    return reason is not None and self._tasks.revise(task_id, decide)


DEFECTS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    "a row that became unreadable ends maintenance": (
        put(registry, "contextlib", SimpleNamespace(suppress=without_unreadable)), upkeep.overtaken_maintenance),
    "a list names only what can't be read of its channel": (
        put(Outbox, "quarantined", lambda self: self.read(channel="other")[1]), commands.outbox_commands),
    "a blank owner is no filter": (put(tasks_command, "trimmed", blank_is_everything), commands.task_commands),
    "a look is made with any busy timeout": (put(inspection, "refuse_timeout", lambda _: None), outside.typed_timeouts),
    "an audit waits as long as it likes": (
        put(upkeep_command, "audit_file", audit_with_own_patience), outside.typed_timeouts),
    "what a killed program wrote may be permanent": (
        put(program, "DeliveryFailed", of_any_error), commands.deliver_programs),
    "a start is no event": (put(audit_rules, "age_ms", age_without_start), circumstances.absent_times),
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
    "findings do not fail a command": (put(upkeep_command, "_fails", lambda *_: False), commands.run_commands),
    "times that contradict each other are put in order first": (
        after(audit_rules, "contradiction", lambda _: None), circumstances.contradicting_rows),
    "what contradicts itself has an age": (
        after(audit_rules, "order_key", lambda key: (key[0], abs(key[1]), key[2])), circumstances.contradicting_rows),
    "a program that asks for time is given up": (put(program, "TRY_AGAIN", -1), commands.deliver_programs),
    "what was due goes whatever has become of it": (
        put(maintenance_rules.Maintenance, "_prune", lambda self, name: self._tasks.revise(name, lambda _: None)),
        upkeep.overtaken_maintenance),
    "an age is shown in hours only": (put(upkeep_command, "_UNITS", (("h", 3_600), ("s", 1))), outside.shown_commands),
    "a store that can't be used is a refusal": (put(group._CouldNotRun, "exit_code", 1), outside.typed_options),
    "the directory of the environment wins": (
        put(ledger_module, "resolve_state_dir", lambda given: files_module.resolve_state_dir(None)
            if "TORNPAGE_STATE_DIR" in os.environ else files_module.resolve_state_dir(given)), outside.typed_options),
    "who only looks makes the directory": (
        put(upkeep_module, "resolve_state_dir", lambda given: (
            Path(given).mkdir(exist_ok=True), files_module.resolve_state_dir(given))[1]), outside.typed_options),
    "a column has no heading": (put(output_command, "_COLUMNS", ("id", "runtime", "status")), outside.shown_commands),
    "an audit ends after its first rows": (
        put(inspection, "_chunks", lambda connection, chunks=inspection._chunks: islice(chunks(connection), 1)),
        circumstances.many_rows),
    "people are shown their own time": (
        put(output_command, "as_utc", lambda time_ms: f"{datetime.fromtimestamp(time_ms / 1000):%Y-%m-%d %H:%M:%SZ}"),
        outside.shown_commands),
    "the workers of ended runs count": (
        put(inspection, "_WORKERS", "SELECT task_id, worker_id FROM task_history WHERE TRUE"), upkeep.maintenance),
    "a task is lost that a run has begun meanwhile": (
        put(maintenance_rules.Maintenance, "_mark_lost", lose_if_due), upkeep.overtaken_maintenance),
    "a finding without an age is as old as a new one": (
        put(audit_rules, "order_key", lambda one: (
            one.severity is not audit_rules.Severity.ERROR, -(one.age_ms or 0), one.created_at)), upkeep.ages),
    "what is lost does not contradict itself": (
        put(audit_rules.Audit, "_findings", lambda self, row, task: audit_rules.findings(
            replace(row, status=task.status), task, self.now)), circumstances.contradicting_rows),
    "a file that stays after its import is no problem": (
        put(outbox_command, "_print_report", print_and_forget), commands.outbox_commands),
    "maintenance waits for a reader of the log": (
        put(upkeep_module.Upkeep, "_checkpoint", lambda self: self._database.checkpoint("TRUNCATE")),
        outside.openings),
    "workers are asked about before their task is read": (
        put(maintenance_rules.Maintenance, "_mark_lost", ask_and_read), upkeep.overtaken_maintenance),
    "what was cancelled needs no date": (
        put(audit_rules, "_missing_cleanup", missing_but_of_cancelled), hands.endless_tasks),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_seen(DEFECTS[name], tmp_path, monkeypatch)
