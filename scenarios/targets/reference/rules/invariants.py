"""The reference's own rules: for every state of it, and for every change of a state by a step.

Written from the ledger's specification and not from its code, as plain functions over views, so that a defect that is
wrong without any fault (where the fault-free shadow is wrong in the same way) is found, too. A view is that of
`Reference.fresh_view`: ``task/…``, ``delivery/…``, ``run/…``, ``session/…`` and ``message/…``, each a row.

`check_view` holds in every state, also in one that a crash has left. `check_change` covers what one call may do: some
changes are never allowed, whatever the outcome of the call; others are required once it was acknowledged.

In the session's environment no worker is alive during ``recover`` and ``maintenance``; at all other times every one is,
except passes over the outbox, which live as long as they run. Calls of another process are wrapped in ``elsewhere``.

Not covered: state that no view shows; see the session's `self_check`. The wording of messages and tasks.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import dropwhile
from typing import Any, Final

from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, View
from tornpage.scenarios.targets.reference.calls import Made, made_by, rows_of
from tornpage.scenarios.targets.reference.rules import outbox_invariants as outbox_rules

_DAY_MS: Final = 24 * 3_600_000
_ACTIVE: Final = frozenset({"queued", "running"})
BY_ANOTHERS_HAND: Final = outbox_rules.BY_ANOTHERS_HAND
"""The label of a task, the repository of a run and the turn of a message whose row somebody has written past the
ledger: its times, and those of the run's sessions, may contradict each other and the status."""


def check_view(view: View) -> None:
    """Check a state against the rules for every state. Raises `Violation`."""
    tasks, runs, sessions = (rows_of(view, kind) for kind in ("task", "run", "session"))
    for name, task in tasks.items():
        _check_task(name, task)
    for name, run in runs.items():
        _check_run(name, run, tasks.get(run["task_id"]))
    for name, session in sessions.items():
        if f"unreadable/task_history/{session['run_id']}" not in view:
            _check_session(name, session, runs.get(session["run_id"]))
    for name in rows_of(view, "delivery").keys() - tasks.keys():
        raise Violation("state-makes-sense", f"there is a delivery state of task {name}, and no such task")
    outbox_rules.check_messages(rows_of(view, "message"))


def check_change(before: View, action: Action, after: View, *, is_done: bool, now_ms: int) -> None:
    """Check one call against its allowed and, if acknowledged, its required changes. Raises `Violation`."""
    calls = made_by(action, now_ms)
    old, new = rows_of(before, "task"), rows_of(after, "task")
    # An unreadable one still exists.
    old = {name: task for name, task in old.items() if f"unreadable/tasks/{name}" not in after}
    _check_removed(old, new, calls)
    # If a batch deletes a task and creates another one of its name, the old one has no new state.
    old = {name: task for name, task in old.items() if not _is_created_again(name, calls)}
    for name in old.keys() & new.keys():
        _check_transition(name, old[name], new[name], calls)
    for name, task in new.items():
        _check_stamps(name, old.get(name), task, calls)
    _check_runs(before, after, calls, is_done=is_done)
    messages = {
        name: row
        for name, row in rows_of(before, "message").items()
        if f"unreadable/message_outbox/{name}" not in after
    }
    outbox_rules.check_changes(messages, rows_of(after, "message"), calls, is_done=is_done)


# -- every state -----------------------------------------------------------------------------------------------


def _check_task(name: str, task: Mapping[str, Any]) -> None:
    for earlier, later in (
        ("created_at", "started_at"), ("created_at", "ended_at"), ("created_at", "last_event_at"),
        ("started_at", "ended_at"), ("started_at", "last_event_at"),
    ):  # fmt: skip
        first, second = task[earlier], task[later]
        if first is not None and second is not None and first > second:
            raise Violation("state-makes-sense", f"task {name}: {earlier} is {first}, and {later} is {second}")
    if (task["status"] in _ACTIVE) != (task["ended_at"] is None) and task["label"] != BY_ANOTHERS_HAND:
        raise Violation("state-makes-sense", f"task {name} is {task['status']}, and ended_at is {task['ended_at']}")


def _check_run(name: str, run: Mapping[str, Any], task: Mapping[str, Any] | None) -> None:
    by_hand = run["repo"] == BY_ANOTHERS_HAND
    if (run["status"] == "running") != (run["finished_at"] is None) and not by_hand:
        raise Violation("state-makes-sense", f"run {name} is {run['status']}, finished_at is {run['finished_at']}")
    if run["finished_at"] is not None and run["finished_at"] < run["started_at"] and not by_hand:
        raise Violation("state-makes-sense", f"run {name} ends before it starts")
    # A task that was deleted and created again while its run continues is another one.
    is_its = task is not None and task["run_id"] == name and task["created_at"] <= run["started_at"]
    if run["status"] == "running" and task is not None and is_its and task["status"] == "queued":
        raise Violation("in-flight-flagged-once", f"run {name} is under way, and its task is still queued")


def _check_session(name: str, session: Mapping[str, Any], run: Mapping[str, Any] | None) -> None:
    if run is None:
        raise Violation("state-makes-sense", f"session {name} belongs to no run")
    if session["valid"] != (session["invalidated_at"] is None) and run["repo"] != BY_ANOTHERS_HAND:
        raise Violation(
            "state-makes-sense", f"session {name}: valid is {session['valid']}, its date {session['invalidated_at']}"
        )
    if session["valid"] and run["status"] == "interrupted":
        raise Violation(
            "in-flight-flagged-once", f"run {session['run_id']} was interrupted, and its session {name} is still valid"
        )


# -- changes of tasks by a call ----------------------------------------------------------------------------------


def _check_transition(name: str, old: Mapping[str, Any], new: Mapping[str, Any], calls: Iterable[Made]) -> None:
    was, now = old["status"], new["status"]
    if was == now:
        return
    if was not in _ACTIVE and not (was == "lost" and now not in _ACTIVE and _reports_end(name, old, calls)):
        raise Violation("terminal-is-final", f"task {name} was {was}, and {_said(calls)} made it {now}")
    if now == "queued":
        raise Violation("terminal-is-final", f"task {name} was {was}, and {_said(calls)} put it back into the queue")
    if now == "lost" and not any(call.may_find_lost for call in calls):
        raise Violation(
            "in-flight-flagged-once", f"the work on task {name} was alive, and {_said(calls)} took it for lost"
        )


def _is_created_again(name: str, calls: Iterable[Made]) -> bool:
    """Whether the task is deleted, and after that one with its id is created."""
    late = dropwhile(lambda call: not call.is_on("tasks.delete", "task_id", name), calls)
    return any(call.is_on("tasks.create", "id", name) for call in late)


def _reports_end(name: str, task: Mapping[str, Any], calls: Iterable[Made]) -> bool:
    """Whether the run that owns a lost task reports its real end."""
    run = task["run_id"]
    return run is not None and any(
        str(call.args.get("run_id")).strip() == run.strip()
        and (call.name in ("history.finish", "tasks.finalize_by_run") or call.is_on("tasks.finish", "task_id", name))
        for call in calls
    )


def _check_removed(old: Mapping[str, Any], new: Mapping[str, Any], calls: Iterable[Made]) -> None:
    for name in old.keys() - new.keys():
        cleanup_after = old[name]["cleanup_after"]
        is_over = old[name]["status"] not in _ACTIVE and cleanup_after is not None
        if not any(
            call.is_on("tasks.delete", "task_id", name)
            or (call.name == "maintenance" and is_over and call.now_ms >= cleanup_after)
            for call in calls
        ):
            raise Violation("only-what-is-over-goes", f"{_said(calls)} removed task {name}, which no call asked for")


def _check_stamps(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any], calls: Iterable[Made]) -> None:
    """The call that ends a task sets its cleanup time in the same write."""
    if new["status"] in _ACTIVE or (old is not None and old["status"] == new["status"]):
        return
    if any(call.name == "older_row" for call in calls):
        return
    wanted = new["ended_at"] + (_DAY_MS if new["status"] == "lost" else 7 * _DAY_MS)
    if new["cleanup_after"] != wanted:
        raise Violation(
            "state-makes-sense",
            f"task {name} became {new['status']} with cleanup_after {new['cleanup_after']}, not {wanted}",
        )


# -- changes of runs by a call -----------------------------------------------------------------------------------


def _check_runs(before: View, after: View, calls: Iterable[Made], *, is_done: bool) -> None:
    old, new = rows_of(before, "run"), rows_of(after, "run")
    # An unreadable one still exists.
    old = {name: run for name, run in old.items() if f"unreadable/task_history/{name}" not in after}
    for name in old.keys() - new.keys():
        raise Violation("in-flight-flagged-once", f"{_said(calls)} removed run {name} from the history")
    for name in new.keys() - old.keys():
        if not any(call.name == "history.start" for call in calls):
            raise Violation("in-flight-flagged-once", f"{_said(calls)} put run {name} on record, which no call started")
    for name, run in old.items():
        _check_run_change(name, run, new[name], calls)
    if is_done:
        _check_runs_done(old, new, calls)


def _check_run_change(name: str, old: Mapping[str, Any], new: Mapping[str, Any], calls: Iterable[Made]) -> None:
    by_hand = old["repo"] == BY_ANOTHERS_HAND and any(call.name == "spoiled_row" for call in calls)
    if old == new or by_hand:
        return
    if old["status"] != "running":
        raise Violation("terminal-is-final", f"run {name} was {old['status']}, and {_said(calls)} changed it")
    if not any(call.is_on("history.finish", "run_id", name) or call.is_boot for call in calls):
        raise Violation("in-flight-flagged-once", f"run {name} was alive, and {_said(calls)} ended it")


def _check_runs_done(old: Mapping[str, Any], new: Mapping[str, Any], calls: Iterable[Made]) -> None:
    for call in calls:
        name = str(call.args.get("run_id")).strip()
        if call.name == "history.start" and "run_id" in call.args and name not in new:
            raise Violation("in-flight-flagged-once", f"run {name} was started, and nothing of it is on record")
        if call.name == "history.finish" and name in new and new[name]["status"] == "running":
            raise Violation("in-flight-flagged-once", f"run {name} has finished, and its row still says running")
        if not call.is_boot:
            continue
        for forgotten in _running(new):
            raise Violation(
                "in-flight-flagged-once", f"run {forgotten} was in flight when its worker died, and recovery left it so"
            )
        for flagged in _running(old):
            is_finished = any(one.is_on("history.finish", "run_id", flagged) for one in calls)
            if new[flagged]["status"] != "interrupted" and not is_finished:
                raise Violation(
                    "in-flight-flagged-once", f"run {flagged} was in flight; recovery made it {new[flagged]['status']}"
                )


def _running(runs: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, run in runs.items() if run["status"] == "running")


def _said(calls: Iterable[Made]) -> str:
    return " and ".join(call.name for call in calls) or "nothing"
