"""Scripts of rows by another's hand: ones that the ledger itself would not have written, readable or not."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.rules.invariants import BY_ANOTHERS_HAND
from tornpage.scenarios.targets.reference.scripts.calls import (
    DAY_MS,
    EARLIEST_MS,
    FAIL,
    LATEST_MS,
    as_json,
    batch,
    call,
    create,
    enqueue,
    within,
)


def _written(table: str, key: str, **columns: Any) -> Iterator[Action]:
    for column, value in columns.items():
        yield call("spoiled_row", table=table, key=key, column=column, value=value)


# No pass of this name runs: its worker is dead.
_DEAD: Final = "pass-of-another"


def dead_senders() -> Iterator[Action]:
    """Every call on a message whose sender has died, before and after its last attempt; a reason stays."""
    calls = (
        call("outbox.claim", message_id="m", worker_id="w"), call("outbox.ack", message_id="m"),
        call("outbox.fail", message_id="m", **FAIL), call("outbox.fail", message_id="m", worker_id=_DEAD, **FAIL),
        call("outbox.move_to_failed", message_id="m"), call("outbox.release", message_id="m", worker_id=_DEAD),
        call("outbox.release", message_id="m", worker_id="w"),
        call("outbox.recover", cutoff=None), call("outbox.recover", cutoff=None, later_ms=DAY_MS),
    )  # fmt: skip
    dead = {"leased_by": _DEAD, "terminal_reason": "earlier"}
    rows: tuple[dict[str, Any], ...] = (
        {"attempt_count": 0, **dead}, {"attempt_count": 4, **dead}, {"attempt_count": 5},
    )  # fmt: skip
    for number, columns in enumerate(rows):
        for one in calls:
            name = f"m{number}{calls.index(one)}"
            yield enqueue(name)
            yield from _written("message_outbox", name, **columns)
            meant = {"message_id": name} if "message_id" in one.args else {}
            yield Action(one.name, {**one.args, **meant})
            yield call("outbox.move_to_failed", message_id=name, worker_id="w")


def odd_payloads() -> Iterator[Action]:
    """Payloads that are no JSON, or none that Python can read: each fails alone, and is shown as it is."""
    for number, text in enumerate(("{", "NaN", "[1, Infinity]", "1e999", "", "nul", "[" * 100_000, "5 6")):
        name = f"m{number}"
        yield enqueue(name)
        yield enqueue(f"n{number}")
        yield from _written("message_outbox", name, payload=text)
        yield call("outbox.get", message_id=name)
        if text in ("{", "NaN"):
            for command in (["show", name], ["list"]):
                means = call("outbox.get", message_id=name) if command[0] == "show" else call("outbox.list")
                yield as_json(means, "outbox", *command)
        yield call("outbox.recover", cutoff=None)
        yield call("outbox.prune", age_ms=1, later_ms=DAY_MS)
    yield enqueue("bytes")
    yield from _written("message_outbox", "bytes", payload={"hex": "7b22ff"})
    yield from (
        call("outbox.get", message_id="bytes"), call("outbox.claim", message_id="bytes", worker_id="w"),
        call("outbox.release", message_id="bytes", worker_id="w"), call("outbox.recover", cutoff=None),
    )  # fmt: skip


_WEEK_MS: Final = 7 * DAY_MS
_MOST: Final = 2**63 - 1
_DEEPEST: Final = 64


def far_times() -> Iterator[Action]:
    """Times that no caller may give, and the last ones before them; and as many attempts as SQLite can store.

    Upkeep computes with times, commands show them, and each goes on with the other rows.
    """
    ends = ((LATEST_MS, 0), (EARLIEST_MS, 0), (LATEST_MS + 1, 1), (EARLIEST_MS - 1, 1), (_MOST, 1))
    columns = ("created_at", "started_at", "ended_at", "last_event_at", "cleanup_after")
    for number, (value, _) in enumerate((*ends, (LATEST_MS + _WEEK_MS, 0), (LATEST_MS + _WEEK_MS + 1, 1))):
        for column in columns:
            name = f"{column}{number}"
            yield create(name, status="failed", label=BY_ANOTHERS_HAND)
            # An older version did not stamp an end.
            yield from _written("tasks", name, **{"cleanup_after": None, column: value})
        yield create(f"whole{number}", status="failed")
        yield call("maintenance")
        yield call("maintenance", later_ms=8 * DAY_MS)
    listed = call("tasks.list")
    yield from (listed, call("audit"), call("tasks.list_for_owner", owner_key="main"), call("maintenance", apply=False))
    yield as_json(listed, "tasks", "list")
    yield Action("command", {"argv": ["tasks", "list"], "means": within(listed)})
    for number, (value, is_bad) in enumerate(ends):
        for column in ("queued_at", "next_attempt_at", "last_attempt_at"):
            name = f"{column}{number}"
            yield enqueue(name)
            yield from _written("message_outbox", name, **{column: value})
            yield call("outbox.get", message_id=name)
            yield call("outbox.list")
            if is_bad:
                yield call("outbox.recover", cutoff=None)
            yield call("outbox.move_to_failed", message_id=name)
        if is_bad:
            name = f"run{number}"
            yield create(name)
            yield call("history.start", task_id=name, worker_id="w", run_id=name)
            yield from _written("task_history", name, started_at=value)
            yield call("history.read")
            yield call("history.finish", run_id=name, status="success")
        yield create(f"state{number}", requester_origin=1)
        yield from _written("task_delivery_state", f"state{number}", last_notified_event_at=value)
        yield call("tasks.get_delivery", task_id=f"state{number}")
        yield call("tasks.quarantined")
    for number, one in enumerate((
        call("outbox.fail", **FAIL), call("outbox.move_to_failed"), call("outbox.recover", cutoff=None),
        call("outbox.claim", worker_id="w"),
    )):  # fmt: skip
        for leased_by in (None, _DEAD):
            name = f"most{number}{leased_by}"
            yield enqueue(name)
            yield from _written("message_outbox", name, attempt_count=_MOST, leased_by=leased_by)
            yield Action(one.name, {**one.args, **({"message_id": name} if one.name != "outbox.recover" else {})})
            yield call("outbox.move_to_failed", message_id=name)


def deep_values() -> Iterator[Action]:
    """JSON as deep as a caller may give, and one deeper."""
    for depth in (_DEEPEST, _DEEPEST + 1, 300):
        text, name = "[" * depth + "]" * depth, f"d{depth}"
        yield create(name, requester_origin=1)
        yield from _written("task_delivery_state", name, requester_origin=text)
        yield call("tasks.get_delivery", task_id=name)
        yield call("tasks.set_delivery_state", task_id=name, last_notified_event_at=5)
        yield call("tasks.quarantined")
        yield call("history.start", task_id=name, worker_id="w", run_id=name)
        yield call("history.finish", run_id=name, status="success", artifacts=[1])
        if depth > _DEEPEST:
            yield from _written("task_history", name, artifacts=text)
        yield call("history.get", run_id=name)
        yield call("history.finish", run_id=name, status="success", artifacts=[1])


def padded_keys() -> Iterator[Action]:
    """Keys with white space around them, which the schema refuses: memory and the rows have to agree on them."""
    for number, (column, value) in enumerate((("owner_key", " x"), ("run_id", "r\u3000"), ("owner_key", "x\n"))):
        name = f"t{number}"
        yield create(name, owner_key="x", run_id="r", task=name)
        yield create(f"{name} after", owner_key="x")
        yield from _written("tasks", name, **{column: value})
        yield from (
            call("tasks.list_for_owner", owner_key="x"), call("tasks.list_fresh_for_owner", owner_key="x"),
            call("tasks.list_by_run", run_id="r"), call("tasks.mark_running_by_run", run_id="r"),
            call("tasks.quarantined"), call("audit"), call("tasks.cancel", task_id=name),
            call("tasks.delete", task_id=name), create(f"{name} again", owner_key="x", run_id="r", task=name),
        )  # fmt: skip


def padded_texts() -> Iterator[Action]:
    """Other keys with white space around them, which the schema allows: they are those without it."""
    columns = ("child_session_key", "parent_flow_id", "label", "task", "requester_session_key", "source_id")
    for number, (column, pad) in enumerate(product(columns, (" x\t", "\u3000x"))):
        name, run = f"t{number}", f"r{number}"
        keys = {"runtime": "cli", "owner_key": "o", "run_id": run, "task": "work", column: "x"}
        yield create(name, **keys)
        yield from _written("tasks", name, **{column: pad})
        yield from (
            call("tasks.list_for_session", session_key="x"), call("tasks.list_by_parent_flow", parent_flow_id="x"),
            call("tasks.find", token="x"), call("tasks.progress_by_run", run_id=run, text="x", session_key="x"),  # noqa: S106 - a session
            create(f"{name} again", **keys), create(f"{name} other", **{**keys, column: "y"}),
            call("tasks.progress_by_run", run_id=run, text="y"),
            call("tasks.delete", task_id=name), call("tasks.list_for_session", session_key="x"),
        )  # fmt: skip


def twins() -> Iterator[Action]:
    """Two tasks of one run, made at the same time, that a create and a token may mean: the first one is meant."""
    for number, (runtime, more) in enumerate(product(("acp", "cli"), ({}, {"label": "l"}))):
        keys = {"runtime": runtime, "owner_key": "o", "task": "work", **more}
        names = [f"{one}{number}" for one in "ab"]
        yield batch(*(create(name, **keys) for name in names))
        for name in reversed(names):
            yield from _written("tasks", name, run_id=f"r{number}")
        yield create(f"c{number}", **keys, run_id=f"r{number}", parent_task_id="p")
        yield create(f"d{number}", **{**keys, "task": "other"}, run_id=f"r{number}", agent_id="p")
        yield call("tasks.find", token=f"r{number}")
        yield call("tasks.list_by_run", run_id=f"r{number}")
        yield call("tasks.mark_running_by_run", run_id=f"r{number}")


def early_rows() -> Iterator[Action]:
    """Rows that another hand has put before the first one: they are the oldest, and each look reads them."""
    for number, table in enumerate(("tasks", "message_outbox")):
        for name in "abcd":
            yield enqueue(f"{name}{number}") if number else create(f"{name}{number}", status="lost")
        for name, insertion in (("c", 0), ("d", -1), ("a", -(2**63))):
            yield from _written(table, f"{name}{number}", insertion=insertion)
        yield call("tasks.list")
        yield call("audit", later_ms=DAY_MS)
        yield call("maintenance", apply=False, later_ms=2 * DAY_MS)
        yield call("outbox.list")
        yield call("outbox.recover", cutoff=None, later_ms=-DAY_MS)
    yield call("maintenance", later_ms=2 * DAY_MS)
    yield create("e")
    yield call("tasks.list")


def endless_tasks() -> Iterator[Action]:
    """An end without a date to prune it, as an older version left it, in each status that is one."""
    for status in ("succeeded", "failed", "timed_out", "cancelled", "lost"):
        yield create(status, status=status)
        yield from _written("tasks", status, cleanup_after=None)
        yield call("audit")
        yield call("maintenance", apply=False)
    yield call("maintenance")
    yield call("audit")


def contradicting_runs() -> Iterator[Action]:
    """Runs and sessions whose status and times contradict each other, which the schema refuses: the status decides."""
    for number, (status, finished_at) in enumerate((
        ("running", 5), ("running", LATEST_MS), ("success", None), ("aborted_no_skill", None), ("failure", 5),
    )):  # fmt: skip
        name = f"r{number}"
        yield create(name)
        yield call("history.start", task_id=name, worker_id="w", run_id=name, repo=BY_ANOTHERS_HAND)
        for session, columns in (
            ("valid", {"invalidated_at": 5}), ("reasoned", {"reason": "why"}), ("invalid", {"valid": 0}), ("open", {}),
        ):  # fmt: skip
            yield call("history.open_session", run_id=name, session_id=f"{session}{number}")
            yield from _written("agent_sessions", f"{session}{number}", **columns)
        yield from _written("task_history", name, status=status, finished_at=finished_at)
        for session in ("valid", "reasoned", "invalid"):
            yield call("history.open_session", run_id=name, session_id=f"{session}{number}")
            yield call("history.get_session", session_id=f"{session}{number}")
        yield call("history.running_workers")
        yield call("history.list", status="running")
        if number:
            yield call("history.finish", run_id=name, status="success" if status == "running" else status)
        else:
            yield call("recover")
        yield call("history.invalidate_session", session_id=f"invalid{number}", reason="x")
        yield call("history.list_sessions", run_id=name)
        yield call("history.read")
    yield call("recover")


def unreadable_messages() -> Iterator[Action]:
    """Ended messages that can't be read: they stay when others are pruned, and count as none of them."""
    columns: tuple[tuple[str, Any], ...] = (
        ("error_class", "odd"), ("last_attempt_at", "soon"), ("channel", {"hex": "61ff"}), ("attempt_count", -1),
    )  # fmt: skip
    for number, (column, value) in enumerate(columns):
        for name in ("bad", "good", "better", "best", "last"):
            yield enqueue(f"{name}{number}")
            yield call("outbox.ack", message_id=f"{name}{number}")
        yield from _written("message_outbox", f"bad{number}", **{column: value})
        for limit in (2, 1, None):
            yield call("outbox.prune", age_ms=1, later_ms=DAY_MS, limit=limit)
            yield call("outbox.read")


def ended_and_pending() -> Iterator[Action]:
    """A message with the time of an end, as an older version may have left it, that is to be delivered: it stays."""
    for number, columns in enumerate(({"completed_at": 5}, {"completed_at": 5, "attempt_count": 1})):
        yield enqueue(f"m{number}", turn_id=BY_ANOTHERS_HAND)
        yield from _written("message_outbox", f"m{number}", **columns)
        yield call("outbox.prune", age_ms=1, later_ms=DAY_MS)
        yield call("outbox.recover", cutoff=None, later_ms=number * DAY_MS)
        yield call("outbox.prune", age_ms=1, later_ms=2 * DAY_MS)


def negative_attempts() -> Iterator[Action]:
    """Fewer attempts than none: such a message alone can't be read."""
    for attempts in (-1, -2, -9):
        name = f"m{attempts}"
        yield enqueue(name)
        yield from _written("message_outbox", name, attempt_count=attempts)
        yield call("outbox.fail", message_id=name, **FAIL)
        yield call("outbox.recover", cutoff=None)


SCRIPTS: Final = (
    padded_keys,
    padded_texts,
    early_rows,
    twins,
    endless_tasks,
    contradicting_runs,
    unreadable_messages,
    ended_and_pending,
    negative_attempts,
    dead_senders,
    odd_payloads,
    far_times,
    deep_values,
)
