"""Realistic defects in runs, recovery and workers, one at a time: a script's call then differs from the model."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace
from put_into_the_ledger import Patch, after, is_seen, put, several

from tornpage import ledger
from tornpage.ledger import (
    Status,
    runs,
)
from tornpage.ledger import history as history_module
from tornpage.ledger import recovery as recovery_module
from tornpage.ledger import workers as worker_locks
from tornpage.ledger.disk import rows
from tornpage.ledger.history import RunHistory
from tornpage.ledger.outbox import Outbox
from tornpage.ledger.recovery import Recovery
from tornpage.ledger.registry import TaskRegistry
from tornpage.ledger.rules import values
from tornpage.scenarios.targets.reference.scripts import (
    circumstances,
    drivers,
    edges,
    outside,
    together,
)
from tornpage.scenarios.targets.reference.scripts import runs as run_scripts

OPEN = os.open


def release_and_remove(self: Any, worker_id: str) -> None:
    self.release(worker_id)
    if self._directory is not None:
        self._path(self._directory, worker_id).unlink()


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


def invalidate_what_was_seen(self: Any, session_id: str, reason: str) -> runs.Session:
    session = self.get_session(session_id)
    if session is None:
        raise ledger.NotFound
    changed = runs.invalidated(session, self.clock(), reason)
    with self.database.transaction() as transaction:
        transaction.write(runs.SESSIONS, runs.SESSIONS.encode(changed))
    return changed


def finish_what_was_seen(self: Any, run_id: str, status: str, **said: Any) -> runs.Run:
    run = self.get(run_id)
    ended = runs.finished(run, self.clock(), runs.checked_result(status), runs.checked_end(runs.RunEnd(**said)))
    with self.database.transaction() as transaction:
        if ended is not run:
            self.write_end(transaction, ended, self.clock())
    return ended


def list_by_the_second(self: Any, listed: Any = RunHistory.list, **filters: Any) -> list[runs.Run]:
    oldest_first = listed(self, **filters)[::-1]
    return sorted(oldest_first, key=lambda run: -(run.started_at // 1_000))


def refuse_at_any_time(run: Any, status: Any, end: Any, refuse: Any = runs._refuse_other_result) -> None:
    refuse(run, status, replace(end, finished_at=None))


def lock_again(self: Any, path: Path, worker_id: str, lock: Any = ledger.Workers._lock_new_file) -> None:
    path.unlink(missing_ok=True)
    lock(self, path, worker_id)


def clean_unregistered(self: Any, referenced: Any, clean: Any = ledger.Workers.clean) -> Any:
    with mock.patch.object(type(self), "_registration", return_value=contextlib.nullcontext()):
        return clean(self, referenced)


def fail_if_it_is_gone(self: Any, *args: Any, unlink: Any = Path.unlink, **_how: Any) -> None:
    unlink(self)


def start_as_it_was(self: Any, task_id: str, *, worker_id: str, start: Any = RunHistory.start, **how: Any) -> Any:
    with mock.patch.object(self.workers, "is_alive", return_value=self.workers.is_alive(worker_id)):
        return start(self, task_id, worker_id=worker_id, **how)


def restore_or_go_on(self: Any, restore: Any = TaskRegistry.restore) -> None:
    known = self._restored, self._restore_failure
    try:
        restore(self)
    except ledger.StoreError:
        self._restored, self._restore_failure = known
        raise


def run_on_what_was_seen(self: Any, run: Any = Recovery.run) -> Any:
    self.seen = self._history.database.select(runs.RUNS, "status = 'running'")
    return run(self)


def recover_and_clean(self: Any, run: Any = Recovery.run) -> Any:
    done = run(self)
    self._clean_workers()
    return done


def cost_in_cents(value: Any, cost: Any = runs._cost) -> Any:
    exact = cost(value)
    return None if exact is None else round(exact, 2)


class ByName(dict[str, Any]):
    """Locks by the name of their file alone."""

    def __setitem__(self, path: str, lock: Any) -> None:
        super().__setitem__(Path(path).name, lock)

    def pop(self, path: str, *default: Any) -> Any:
        return super().pop(Path(path).name, *default)


def in_local_time(time_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.localtime(time_ms // 1000))


def a_reason_for_none(name: str, value: Any) -> Any:
    return values.given_text(name, value) or ("none" if name == "reason" else None)


DEFECTS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    "workers of two directories are one if they have one id": (
        put(worker_locks, "_held_by_this_process", ByName()), circumstances.workers),
    "a cost is in whole cents": (put(runs, "_cost", cost_in_cents), edges.many_digits),
    "a worker is forgotten by a batch that is rolled back": (
        put(Recovery, "run", recover_and_clean), circumstances.workers),
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
    "a blank reason is replaced": (put(history_module, "given_text", a_reason_for_none), run_scripts.sessions),
    "a session is opened twice": (
        put(runs, "opened", lambda name, run: runs.Session(name, run.id)), run_scripts.sessions),
    "why a session is invalid is written over": (
        put(runs, "invalidated", lambda session, now, reason: replace(
            session, valid=False, invalidated_at=now, reason=reason)), run_scripts.sessions),
    "an id is used twice": (put(ledger.Workers, "_lock_new_file", lock_again), circumstances.workers),
    "what is leased may be used again": (
        put(Outbox, "leaseholders", lambda *_: set()), circumstances.workers),
    "two questions at once make a worker live": (
        put(fcntl, "LOCK_SH", fcntl.LOCK_EX), circumstances.workers),
    "what can't be found out is dead": (put(worker_locks, "_presumed_alive", lambda *_: False), circumstances.workers),
    "the worker of a pass leaves its file": (
        put(ledger.Worker, "retire", ledger.Worker.release), circumstances.workers),
    "a session is looked at before its transaction": (
        put(RunHistory, "invalidate_session", invalidate_what_was_seen), together.overtaken_calls),
    "a run is looked at before its end is written": (
        put(RunHistory, "finish", finish_what_was_seen), together.overtaken_ends),
    "a run that can't be read is none": (
        put(RunHistory, "get", lambda self, run_id: next(
            iter(one for one in self.list() if one.id == run_id), None)), circumstances.spoiled_runs),
    "a retired worker's file outlives its lock": (
        put(worker_locks.Workers, "retire", release_and_remove), circumstances.workers),
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
    "files of workers are removed without a lock": (
        put(Recovery, "_clean_workers", clean_when_unlocked), circumstances.workers),
    "a worker's lock is as wide as the umask": (
        put(worker_locks.os, "open", lambda path, flags, *_: OPEN(path, flags, 0o666)), outside.openings),
    "files of dead workers are removed without the lock of registrations": (
        put(worker_locks.Workers, "clean", clean_unregistered), drivers.two_workers),
    "a lock file that vanishes ends a cleaning": (put(Path, "unlink", fail_if_it_is_gone), drivers.two_workers),
    "a restore that fails is forgotten": (put(TaskRegistry, "restore", restore_or_go_on), drivers.unfenced),
    "what can't be secured is interrupted without a line": (
        put(recovery_module._Announcement, "settled", lambda *_: None), drivers.unfenced),
    "a worker that has died meanwhile starts a run": (
        put(RunHistory, "start", start_as_it_was), circumstances.workers),
    "an error inside a ledger's scope is lost": (
        put(ledger.Ledger, "__exit__", lambda self, *_: self.close() or True), drivers.scopes),
    "a worker outlives its scope": (put(worker_locks.Worker, "__exit__", lambda *_: False), drivers.scopes),
    "recovery reads the runs before it has the lock": (
        several(put(Recovery, "run", run_on_what_was_seen),
                put(Recovery, "_in_flight", lambda self, _: runs.RUNS.decode_all(self.seen))), run_scripts.recovery),
    "runs that began within a second are taken for equal": (
        put(RunHistory, "list", list_by_the_second), edges.equal_times),
    "the same end at another time is the same report": (
        put(runs, "_refuse_other_result", refuse_at_any_time), run_scripts.run_ends),
    "the log has the user's own time": (put(recovery_module, "_as_utc", in_local_time), run_scripts.recovery),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_seen(DEFECTS[name], tmp_path, monkeypatch)
