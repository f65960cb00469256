"""Audit and maintenance (§3)."""

from typing import Any, Final

from tornpage.scenarios.targets.reference.model import tasks
from tornpage.scenarios.targets.reference.model.state import Outcome, Row, State, joined, with_task, without_task
from tornpage.scenarios.targets.reference.model.values import ACTIVE, TERMINAL, Refusal, Text, one_of_or_none
from tornpage.scenarios.targets.reference.model.world import World

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS
_STALE_MS: Final = {"queued": 10 * _MINUTE_MS, "running": 30 * _MINUTE_MS}
_LOST_MS: Final = 5 * _MINUTE_MS
CODES: Final = (
    "stale_queued", "stale_running", "lost", "delivery_failed", "missing_cleanup", "inconsistent_timestamps",
)  # fmt: skip


def age_ms(task: Row, now_ms: int) -> int:
    """§3: max(0, now - (last_event_at, else started_at, else created_at))."""
    last = next(task[name] for name in ("last_event_at", "started_at", "created_at") if task[name] is not None)
    return max(0, now_ms - int(last))


def may_be_lost(world: World, task: Row) -> bool:
    """§3, lost: active, and age ≥ 5 min."""
    return task["status"] in ACTIVE and age_ms(task, world.now_ms) >= _LOST_MS


def _is_lost(world: World, state: State, task: Row) -> bool:
    """§3: active, silent for 5 minutes, its worker dead; without a worker, no backing session by the runtime's hook."""
    if not may_be_lost(world, task):
        return False
    workers = [
        run["worker_id"]
        for run in state.run.values()
        if run["task_id"] == task["task_id"] and run["status"] == "running"
    ]
    if workers:
        return not any(map(world.is_alive, workers))
    return task["runtime"] in world.backs and world.is_booting


# -- audit -----------------------------------------------------------------------------------------------------


def audit(world: World, state: State, *, severity: Any = None, code: Any = None, limit: Any = None) -> Outcome:
    """§3: over reconciled tasks, errors first, then age descending, then created_at; the summary counts everything."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise Refusal("UsageError")
    one_of_or_none(("warn", "error"), severity)
    one_of_or_none(CODES, code)
    found = [finding for task in state.task.values() for finding in _findings(world, state, task)]
    errors = sum(one["severity"] == "error" for one in found)
    wanted = [one for one in found if severity in (None, one["severity"]) and code in (None, one["code"])]
    wanted.sort(key=_order)
    shown = wanted[:limit]
    return Outcome(state, {
        "count": len(found),
        "filtered_count": len(wanted),
        "displayed": len(shown),
        "filters": {"severity": severity, "code": code, "limit": limit},
        "summary": {
            "total": len(found), "errors": errors, "warnings": len(found) - errors,
            "by_code": {name: sum(one["code"] == name for one in found) for name in CODES},
        },
        "findings": shown,
        "quarantined": state.quarantined("tasks"),
    })  # fmt: skip


def _order(finding: Row) -> tuple[bool, int, int]:
    """A finding without an age comes last in its severity."""
    age = finding["age_ms"]
    return finding["severity"] != "error", -(-1 if age is None else age), finding["created_at"]


def _findings(world: World, state: State, row: Row) -> list[Row]:
    task = tasks.in_order(row)
    if _is_lost(world, state, task):
        stamps = {"ended_at": world.now_ms, "last_event_at": world.now_ms, "cleanup_after": world.now_ms + _DAY_MS}
        task = {**task, "status": "lost", **stamps}
    age, status = age_ms(task, world.now_ms), task["status"]
    found: list[tuple[str, str]] = []
    if age >= _STALE_MS.get(status, age + 1):
        found.append(("warn" if status == "queued" else "error", f"stale_{status}"))
    if status == "lost":
        is_kept = task["cleanup_after"] is not None and task["cleanup_after"] > world.now_ms
        found.append(("warn" if is_kept else "error", "lost"))
    if task["delivery_status"] == "failed" and task["notify_policy"] != "silent":
        found.append(("warn", "delivery_failed"))
    if status in TERMINAL and status != "lost" and task["cleanup_after"] is None:
        found.append(("warn", "missing_cleanup"))
    about = {"task_id": task["task_id"], "created_at": task["created_at"], "detail": Text()}
    told: list[Row] = [{"severity": one, "code": code, "status": status, "age_ms": age, **about} for one, code in found]
    if _contradicts_itself(world.as_written.get(row["task_id"], row)):
        told.append({
            "severity": "warn", "code": "inconsistent_timestamps", "status": row["status"], "age_ms": None, **about,
        })  # fmt: skip
    return told


def _contradicts_itself(row: Row) -> bool:
    """§3: read from the raw row: started < created; ended < started; active but has ended_at."""
    created, started, ended = row["created_at"], row["started_at"], row["ended_at"]
    return (
        (started is not None and started < created)
        or (started is not None and ended is not None and ended < started)
        or (row["status"] in ACTIVE and ended is not None)
    )


# -- maintenance -----------------------------------------------------------------------------------------------


def maintenance(world: World, state: State, *, apply: bool | None = None, meanwhile: State | None = None) -> Outcome:
    """§3: mark lost → prune → stamp, the first that fits; a preview, which is the default, writes nothing.

    Each row is read again in its own transaction before it is changed: `meanwhile` is the state by then, if another
    process has changed something after the pass has read.
    """
    outcomes: list[Outcome] = []
    counts = {"reconciled": 0, "pruned": 0, "stamped": 0}
    found = state if meanwhile is None else meanwhile
    for seen in state.task.values():
        step, task = _step(world, state, seen), found.task.get(seen["task_id"])
        if step is None or task is None or step != _step(world, found, task):
            continue
        if step == "reconciled" and task != seen:
            # Its worker, or its session, was asked about another state of it.
            continue
        counts[step] += 1
        now = outcomes[-1].state if outcomes else found
        if step == "pruned":
            outcomes.append(without_task(now, task["task_id"]))
        elif step == "stamped":
            outcomes.append(with_task(now, {**task, "cleanup_after": tasks.cleanup_time(task)}, previous=task))
        else:
            lost = tasks.ended(task, world.now_ms, "lost", error=task["error"] or Text())
            outcomes.append(with_task(now, lost, previous=task))
    answer = {"applied": bool(apply), **counts}
    return joined(outcomes, found, answer) if apply else Outcome(state, answer)


def _step(world: World, state: State, task: Row) -> str | None:
    if _is_lost(world, state, task):
        return "reconciled"
    if task["status"] not in TERMINAL:
        return None
    if task["cleanup_after"] is None:
        return "stamped"
    return "pruned" if world.now_ms >= task["cleanup_after"] else None
