"""Scripts of the audit and the upkeep: each finding and each step, to the millisecond."""

from collections.abc import Iterator
from itertools import product
from typing import Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.rules.invariants import BY_ANOTHERS_HAND
from tornpage.scenarios.targets.reference.scripts.calls import DAY_MS, MINUTE_MS, START_MS, batch, call, create, later


def audit() -> Iterator[Action]:
    """Each finding, a millisecond before it is one and from then on."""
    yield create("queued")
    yield create("running", status="running")
    yield create("lost", status="lost")
    for number, (since, age_ms) in enumerate(
        ((1, 10 * MINUTE_MS), (2, 30 * MINUTE_MS), (3, DAY_MS), (1, 5 * MINUTE_MS))
    ):
        for offset in (-1, 0, 1):
            step = 4 + number * 3 + offset + 1
            yield call("audit", later_ms=later(since, age_ms + offset, step))
    for number, delivery in enumerate(("failed", "pending")):
        for notify in ("silent", "done_only", "state_changes"):
            yield create(f"d{number}-{notify}", delivery_status=delivery, notify_policy=notify, status="succeeded")
    yield call("audit", later_ms=-DAY_MS)
    yield call("audit", later_ms=DAY_MS, booting=True)
    yield call("maintenance", apply=False, later_ms=DAY_MS)


def filters() -> Iterator[Action]:
    """Filters and limits, which do not change the summary."""
    for name, fields in (
        ("a", {"delivery_status": "failed"}), ("b", {"status": "lost", "delivery_status": "failed"}),
        ("c", {"status": "running"}), ("d", {"status": "running", "started_at": 5}), ("e", {"status": "lost"}),
        ("f", {}), ("g", {"last_event_at": 5}), ("h", {"runtime": "acp", "status": "running"}),
    ):  # fmt: skip
        yield create(name, **fields)
    yield call("older_row", task_id="b")
    for severity in (None, "warn", "error"):
        for code in (None, "lost", "stale_running", "delivery_failed", "missing_cleanup"):
            yield call("audit", severity=severity, code=code, later_ms=3 * DAY_MS)
    for limit in (1, 2, 3, 5, 100):
        yield call("audit", limit=limit, severity="error", later_ms=3 * DAY_MS, booting=True)
    for wrong in ({"severity": "bad"}, {"code": "bad"}, {"limit": 0}, {"limit": True}, {"limit": 1.5}):
        yield call("audit", **wrong)


def maintenance() -> Iterator[Action]:
    """Each step of the upkeep, a millisecond before it is due and from then on."""
    for number, offset in enumerate((-1, 0, 1)):
        name, step = f"a{number}", 1 + number * 7
        yield create(name)
        yield call("history.start", task_id=name, worker_id="w", run_id=f"run-{name}")
        yield create(f"acp{number}", runtime="acp")
        yield create(f"sub{number}", runtime="subagent")
        yield call("maintenance", apply=False, later_ms=later(step + 1, 5 * MINUTE_MS + offset, step + 4))
        yield call("maintenance", later_ms=later(step + 1, 5 * MINUTE_MS + offset, step + 5))
        yield call("maintenance", later_ms=later(step + 2, 5 * MINUTE_MS + offset, step + 6))
    for number, (status, kept_ms) in enumerate((("lost", DAY_MS), ("failed", 7 * DAY_MS))):
        for offset in (-1, 0):
            name, step = f"{status}{offset}", 22 + number * 4 + (offset + 1) * 2
            yield create(name, status=status, requester_origin={"a": 1})
            yield call("maintenance", later_ms=later(step, kept_ms + offset, step + 1))
    # The run of an earlier task of this id has ended, and its worker is dead.
    yield create("again")
    yield call("history.start", task_id="again", worker_id="w", run_id="earlier")
    yield call("history.finish", run_id="earlier", status="failure")
    yield call("tasks.delete", task_id="again")
    yield create("again", status="running")
    yield call("maintenance", later_ms=DAY_MS)
    yield call("audit", later_ms=DAY_MS, booting=True)
    yield create("old", status="lost", error="why")
    yield call("older_row", task_id="old")
    yield call("maintenance", apply=False)
    # As it is by default.
    yield call("maintenance", apply=None)
    yield call("maintenance")
    yield create("erred", runtime="acp", error="first")
    yield call("maintenance", later_ms=DAY_MS)
    yield call("batch", calls=[{"name": "maintenance", "args": {}}])
    # The worker of a run that begins there is alive.
    yield create("in-a-batch")
    begins = call("history.start", task_id="in-a-batch", worker_id="w", run_id="in-a-batch")
    yield batch(begins, call("maintenance"))


def overtaken_maintenance() -> Iterator[Action]:
    """Another process changes a row after maintenance has read it: whether it is due is decided again."""
    for meanwhile in (
        call("tasks.finalize_by_run", run_id="r", status="succeeded"), call("tasks.progress", task_id="t", text="x"),
        call("tasks.set_notify_policy", task_id="t", policy="silent"), call("tasks.delete", task_id="t"),
        call("tasks.finish", task_id="t", status="failed"), create("other", status="lost"),
        call("tasks.get", task_id="t"),
    ):  # fmt: skip
        data = {"name": meanwhile.name, "args": meanwhile.args}
        for runtime, status in (("cli", "lost"), ("acp", "queued"), ("acp", "running"), ("cli", "older")):
            yield create("t", run_id="r", runtime=runtime, status="lost" if status == "older" else status)
            if status == "older":
                yield call("older_row", task_id="t")
            yield Action("maintenance_while", {"meanwhile": data, "later_ms": 3 * DAY_MS})
            yield call("tasks.delete", task_id="t")
            yield call("tasks.delete", task_id="other")
    # Another's hand makes the row unreadable: it is left as it is, and the others are kept up.
    for number, (column, value) in enumerate((("created_at", "soon"), ("runtime", "shell"))):
        yield create(f"v{number}", status="lost")
        yield create(f"w{number}", status="lost")
        spoils = {"table": "tasks", "key": f"v{number}", "column": column, "value": value}
        spoiled = {"name": "spoiled_row", "args": spoils}
        yield Action("maintenance_while", {"meanwhile": spoiled, "later_ms": 3 * DAY_MS})
        yield call("tasks.quarantined")
    # And one that is to be marked as lost: after its worker or session was asked about, or before, while another is.
    for number, (is_run, is_second) in enumerate(product((False, True), repeat=2)):
        if is_second:
            yield create(f"x{number}", runtime="acp")
        yield create(f"y{number}", runtime="cli" if is_run else "acp")
        if is_run:
            yield call("history.start", task_id=f"y{number}", worker_id="w", run_id=f"y{number}")
        yield create(f"z{number}", runtime="acp")
        spoils = {"table": "tasks", "key": f"y{number}", "column": "created_at", "value": "soon"}
        spoiled = {"name": "spoiled_row", "args": spoils}
        yield Action("maintenance_while", {"meanwhile": spoiled, "later_ms": 3 * DAY_MS})
        yield call("tasks.quarantined")
    # By a clock that is a day behind: the task still seems to have had no event for long, but a living worker runs it.
    # It begins before the first transaction, or between the looks at the task and at its workers.
    for look in (0, 4):
        name = f"u{look}"
        yield create(name, runtime="acp", status="queued")
        args = {"task_id": name, "worker_id": "w", "run_id": name, "later_ms": -DAY_MS}
        begins = {"name": "history.start", "args": args}
        yield Action("maintenance_while", {"meanwhile": begins, "look": look, "later_ms": 3 * DAY_MS})
        yield call("history.finish", run_id=name, status="success")


def ages() -> Iterator[Action]:
    """A finding without an age, beside one of a task that has just had an event."""
    yield create("early", status="running", started_at=START_MS, label=BY_ANOTHERS_HAND)
    yield call("spoiled_row", table="tasks", key="early", column="started_at", value=5)
    yield create("just now", delivery_status="failed")
    yield call("audit", later_ms=-MINUTE_MS)
    yield call("audit")


SCRIPTS: Final = (audit, filters, maintenance, overtaken_maintenance, ages)
