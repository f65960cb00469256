"""Run history and restart recovery (§4)."""

import json
from typing import Any, Final

from tornpage.scenarios.targets.reference.model import tasks
from tornpage.scenarios.targets.reference.model.state import Outcome, Row, State, joined, with_task
from tornpage.scenarios.targets.reference.model.values import (
    RESULTS,
    Dated,
    Refusal,
    Text,
    a_cost,
    a_count,
    a_time,
    a_worker_id,
    an_id,
    given,
    json_value,
    key_of,
    one_of,
    the_time,
    trimmed,
)
from tornpage.scenarios.targets.reference.model.world import World

_SAID_AT_START: Final = ("repo", "issue_number", "user", "agent", "agent_type", "model", "provider")
_COUNTS: Final = ("tokens_in", "tokens_out", "turns")
_SAID_AT_END: Final = ("finished_at", "cost_usd", *_COUNTS, "artifacts", "reason")
_ENDS_TASK_AS: Final = {
    "success": "succeeded", "failure": "failed", "cancelled": "cancelled", "interrupted": "lost",
    "aborted_no_skill": "failed",
}  # fmt: skip


def start(
    world: World, state: State, task_id: Any, *, worker_id: Any, run_id: Any = None, started_at: Any = None, **said: Any
) -> Outcome:
    """§4: the row is INSERTed with status `running` in the same transaction that marks the task running."""
    an_id(task_id)
    a_worker_id(worker_id)
    wanted, since = trimmed(run_id), a_time(started_at)
    at_start = {
        name: a_count(said.get(name)) if name == "issue_number" else given(said.get(name)) for name in _SAID_AT_START
    }
    task = tasks.existing(state, task_id)
    owner = key_of(task["run_id"])
    chosen = wanted or owner or an_id(world.new_id)
    since = the_time(world.now_ms) if since is None else since
    if chosen in (*state.run, *state.unreadable.get("task_history", ())) or owner not in (None, chosen):
        raise Refusal("IllegalTransition")
    running = {**tasks.started(task, world.now_ms, since), "run_id": chosen}
    if not world.is_alive(worker_id):
        raise Refusal("IllegalTransition")
    run = {
        "id": chosen, "task_id": task_id, "worker_id": worker_id, "status": "running", "started_at": since,
        **at_start, **dict.fromkeys(_SAID_AT_END),
    }  # fmt: skip
    begun = with_task(state, running, previous=task)
    return Outcome(begun.state.put("run", chosen, run), run, begun.heard)


def finish(world: World, state: State, run_id: Any, status: Any, **said: Any) -> Outcome:
    """§4: the end UPDATEs that row; the same result again is a no-op, another one is refused."""
    an_id(run_id)
    wanted, end = one_of(RESULTS, one_of(("running", *RESULTS), status)), _checked_end(said)
    run = _existing(state, run_id)
    if run["status"] != "running":
        if wanted != run["status"] or not _says_the_same(run, end):
            raise Refusal("IllegalTransition")
        return Outcome(state, run)
    # Checked also if it isn't this run's end: its sessions become invalid now.
    now_ms = the_time(world.now_ms)
    at = now_ms if end["finished_at"] is None else end["finished_at"]
    return _ended(world, state, {**run, **end, "status": wanted, "finished_at": max(at, run["started_at"])})


def _checked_end(said: dict[str, Any]) -> dict[str, Any]:
    return {
        "finished_at": a_time(said.get("finished_at")),
        "cost_usd": a_cost(said.get("cost_usd")),
        **{name: a_count(said.get(name)) for name in _COUNTS},
        "artifacts": json_value(said.get("artifacts")),
        "reason": given(said.get("reason")),
    }


def _says_the_same(run: Row, end: Row) -> bool:
    """Not in the specification: a repeated report may omit fields, and not change any."""
    for name, value in end.items():
        known = run[name]
        was_moved = name == "finished_at" and value is not None and known == run["started_at"] and value < known
        if (
            value is not None
            and not was_moved
            and json.dumps(value, sort_keys=True) != json.dumps(known, sort_keys=True)
        ):
            return False
    return True


def _existing(state: State, run_id: str) -> Row:
    """The run of this id; refused if there is none, or (§1) if its row is unreadable."""
    row = state.run.get(run_id)
    if row is None:
        raise Refusal("Unreadable" if run_id in state.unreadable.get("task_history", ()) else "NotFound")
    return row


def _ended(world: World, state: State, run: Row) -> Outcome:
    """A run's end, with its sessions invalidated if it was interrupted, and its task ended."""
    state = state.put("run", run["id"], run)
    reason = _reason_of(run)
    if run["status"] == "interrupted":
        for name, session in state.session.items():
            if session["run_id"] == run["id"] and session["valid"]:
                patch = {"valid": False, "invalidated_at": world.now_ms, "reason": reason}
                state = state.put("session", name, {**session, **patch})
        for name in (name for name, of in world.hidden.items() if of == run["id"]):
            # §4: what can't be read must not stay valid; then it can be read.
            row = {"session_id": name, "run_id": run["id"], "valid": False, "invalidated_at": world.now_ms}
            state = state.put("session", name, {**row, "reason": reason})
    task = state.task.get(run["task_id"])
    wanted = _ENDS_TASK_AS[run["status"]]
    if task is None or not tasks.may_become(task, wanted, run["id"]):
        return Outcome(state, run)
    over = tasks.ended(task, world.now_ms, wanted, run["id"], ended_at=run["finished_at"], error=reason)
    done = with_task(state, over, previous=task)
    return Outcome(done.state, run, done.heard)


def _reason_of(run: Row) -> Any:
    """The reason that a run's end gives to its task and sessions; an end without a requester has none."""
    if run["status"] == "aborted_no_skill":
        return Text("aborted_no_skill", *([run["reason"]] if run["reason"] is not None else []))
    if run["status"] == "interrupted" and run["reason"] is None:
        return Text(run["id"])
    return run["reason"]


def open_session(world: World, state: State, run_id: Any, session_id: Any = None) -> Outcome:
    """§4: a session of a run in flight; the same again changes nothing."""
    an_id(run_id)
    run = _existing(state, run_id)
    name = trimmed(world.new_id if session_id is None else session_id)
    if name is None:
        raise Refusal("UsageError")
    row = {"session_id": name, "run_id": run_id, "valid": True, "invalidated_at": None, "reason": None}
    if run["status"] == "running" and name in world.hidden:
        raise Refusal("Unreadable")
    if run["status"] != "running" or state.session.get(name, row) != row:
        raise Refusal("IllegalTransition")
    return Outcome(state if name in state.session else state.put("session", name, row), row)


def invalidate_session(world: World, state: State, session_id: Any, reason: Any) -> Outcome:
    """§4: it becomes invalid, with time and reason; an invalid one keeps them."""
    an_id(session_id)
    why = given(reason)
    session = state.session.get(session_id)
    if session is None:
        raise Refusal("Unreadable" if session_id in world.hidden else "NotFound")
    if not session["valid"]:
        return Outcome(state, session)
    row = {**session, "valid": False, "invalidated_at": the_time(world.now_ms), "reason": why}
    return Outcome(state.put("session", session_id, row), row)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def recover(world: World, state: State) -> Outcome:
    """§4: every running row whose worker is dead → interrupted, its sessions invalidated, its task lost; one line each.

    In one transaction. Rows of live workers are left alone.
    """
    running = [run for run in state.run.values() if run["status"] == "running"]
    dead = [run for run in running if not world.is_alive(run["worker_id"])]
    theirs = {run["id"] for run in dead}
    valid = sum(one["valid"] for one in state.session.values() if one["run_id"] in theirs)
    valid += sum(of in theirs for of in world.hidden.values())
    outcomes: list[Outcome] = []
    for run in dead:
        now_ms, reason = the_time(world.now_ms), Text(run["worker_id"], run["id"])
        over = {**run, "status": "interrupted", "finished_at": max(now_ms, run["started_at"]), "reason": reason}
        outcomes.append(_ended(world, outcomes[-1].state if outcomes else state, over))
    answer = {
        "interrupted": [one.answer for one in outcomes],
        "sessions_invalidated": valid,
        "left_running": len(running) - len(dead),
        "quarantined": state.quarantined("task_history"),
    }
    done = joined(outcomes, state, answer)
    left = tuple(Text(f"[recovery] run {key} left as it is") for key in state.unreadable.get("task_history", ()))
    lines = left + tuple(
        Dated(
            run["started_at"],
            f"[recovery] run {_one_line(run['id'])} interrupted: task {run['task_id']}, started ",
            f", worker {run['worker_id']}",
        )
        for run in dead
    )
    return Outcome(done.state, answer, done.heard, lines)
