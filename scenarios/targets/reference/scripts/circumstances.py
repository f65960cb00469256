"""Scripts of circumstances: rows damaged by others, callbacks that act, clocks that move, commands."""

from collections.abc import Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.rules.invariants import BY_ANOTHERS_HAND
from tornpage.scenarios.targets.reference.scripts.calls import (
    DAY_MS,
    MINUTE_MS,
    START_MS,
    as_json,
    batch,
    call,
    create,
    enqueue,
    later,
)

_NO_DELETION: Final = ("delete_task", "delete_task_with_delivery")


def _spoiled(table: str, key: str, column: str, value: Any) -> Action:
    return call("spoiled_row", table=table, key=key, column=column, value=value)


_OTHERS: Final = ("run_id", "child_session_key")


def spoiled_rows() -> Iterator[Action]:
    """A row that can't be read is reported, and the others are as they were."""
    for number, (column, value) in enumerate(
        (
            ("status", "paused"), ("delivery_status", ""), ("notify_policy", "loud"), ("created_at", "soon"),
            ("ended_at", 1.5), ("last_event_at", "x"), ("cleanup_after", "never"), ("runtime", "shell"),
            ("scope_kind", ""), ("terminal_outcome", "done"),
        )
    ):  # fmt: skip
        run = f"r{number}"
        yield create(f"t{number}", run_id=run, runtime="acp", task=f"{number}")
        yield create("whole", run_id=run, runtime="acp", child_session_key="c")
        yield _spoiled("tasks", f"t{number}", column, value)
        yield create(f"t{number}")
        if number < len(_OTHERS):
            # It may be the task that can't be read; one that can be read and matches is it.
            yield create(f"u{number}", run_id=run, runtime="acp", task=f"{number}")
            yield create("whole again", run_id=f" {run} ", runtime="acp", child_session_key="c", label="filled")
            # Another task has its id as a run, or as a session, and is not meant by it.
            yield create(f"other{number}", owner_key="else", **{_OTHERS[number]: f"t{number}"})
            yield call("tasks.find", token=f" t{number} ")
        yield call("tasks.get", task_id=f"t{number}")
        yield call("tasks.quarantined")
        yield call("tasks.cancel", task_id=f"t{number}")
        yield call("tasks.mark_running_by_run", run_id=run)
        yield call("tasks.list")
        yield call("audit", later_ms=DAY_MS)
        yield call("tasks.delete", task_id="whole")
    for number, table in enumerate(("tasks", "task_delivery_state")):
        # Text that is not UTF-8: SQLite keeps any bytes.
        name = f"bytes{number}"
        yield create(name, owner_key="x", task=name, requester_origin={"a": 1})
        yield create(f"{name} after", owner_key="x")
        yield _spoiled(table, name, "error" if table == "tasks" else "requester_origin", {"hex": "61ff62"})
        yield call("tasks.list")
        yield call("tasks.list_fresh_for_owner", owner_key="x")
        yield call("tasks.quarantined")
        yield call("audit")
    yield create("deep", requester_origin=[1])
    yield _spoiled("task_delivery_state", "deep", "requester_origin", "[" * 100_000)
    yield call("tasks.quarantined")
    yield create("d", requester_origin={"a": 1})
    yield _spoiled("task_delivery_state", "d", "requester_origin", "{")
    yield call("tasks.get_delivery", task_id="d")
    yield call("tasks.progress", task_id="d", text="x")
    yield from _about_an_unreadable_state()
    yield call("maintenance", later_ms=30 * DAY_MS)


def _about_an_unreadable_state() -> Iterator[Action]:
    """Every call on a task whose delivery state alone can't be read; the row goes only with its task."""
    for number, change in enumerate((
        call("tasks.set_delivery_state", last_notified_event_at=5), call("tasks.set_delivery_status", status="failed"),
        call("tasks.finish", status="failed"), call("tasks.delete"), call("tasks.cancel"),
    )):  # fmt: skip
        name = f"s{number}"
        yield create(name, requester_origin={"a": 1}, run_id=name)
        yield _spoiled("task_delivery_state", name, "requester_origin", "{")
        yield Action(change.name, {"task_id": name, **change.args})
        yield call("tasks.quarantined")
        for origin in (None, {"a": 2}, float("nan")):
            # The task of the same run; a new one where that is gone.
            again = create(f"{name}-again", run_id=name, requester_origin=origin).args
            yield Action("tasks.create", {**again, "task": f"work {name}"})
        yield call("tasks.restore")
        yield call("tasks.get_delivery", task_id=name)
    yield create("gone", requester_origin={"a": 1})
    yield _spoiled("task_delivery_state", "gone", "requester_origin", "{")
    yield batch(call("tasks.list"), call("tasks.delete", task_id="gone"), call("tasks.quarantined"))


def contradicting_rows() -> Iterator[Action]:
    """Times that contradict each other, in a row of an older version: each look puts them in order, the audit says so.

    Once the ledger has written such a row it is in order.
    """
    hand = {"label": BY_ANOTHERS_HAND}
    late, early = START_MS + 9 * DAY_MS, 5
    written: tuple[tuple[str, dict[str, Any]], ...] = (
        ("queued", {"created_at": late}), ("running", {"created_at": late}), ("running", {"started_at": early}),
        ("queued", {"ended_at": START_MS}), ("running", {"ended_at": early}), ("failed", {"ended_at": early}),
        ("failed", {"started_at": late}), ("succeeded", {"last_event_at": early}), ("lost", {"ended_at": early}),
        ("lost", {"started_at": START_MS, "ended_at": START_MS - 1}), ("failed", {"started_at": START_MS + 7}),
        ("queued", {"last_event_at": None, "created_at": late}), ("running", {"last_event_at": early}),
        ("failed", {"started_at": START_MS, "ended_at": 6}),
        ("queued", {"started_at": START_MS}), ("running", {"last_event_at": None}), ("lost", {"error": "  "}),
    )  # fmt: skip
    for number, (status, fields) in enumerate(written):
        name = f"t{number}"
        # A session backs what is active, but for a boot: then it is lost beside that.
        runtime = "acp" if status in ("queued", "running") else "cli"
        yield create(name, status=status, owner_key=f"o{number % 3}", runtime=runtime, **hand)
        for column, value in fields.items():
            yield _spoiled("tasks", name, column, value)
        # Whether it is lost is decided on times in order.
        yield call("audit", code="lost", booting=True)
        yield call("maintenance", apply=False)
        yield call("tasks.get", task_id=name)
        yield call("tasks.list_fresh_for_owner", owner_key=f"o{number % 3}")
    # Its worker is dead, and by its row alone it had its last event long ago.
    for name, column in (("begun", "last_event_at"), ("begun2", "created_at")):
        yield create(name, **hand)
        yield call("history.start", task_id=name, worker_id="w", run_id=f"run-{name}")
        yield _spoiled("tasks", name, column, early)
        yield call("audit", booting=True)
        yield call("maintenance", apply=False)
        yield call("history.finish", run_id=f"run-{name}", status="failure")
    # An older version did not stamp an end: what happens to the task later doesn't move its date.
    yield create("endless", status="failed", **hand)
    yield _spoiled("tasks", "endless", "ended_at", None)
    yield call("tasks.progress", task_id="endless", text="x")
    looks = (
        call("tasks.list"), call("audit"), call("audit", severity="warn", later_ms=DAY_MS, booting=True),
        call("audit", code="inconsistent_timestamps"), call("audit", severity="error", limit=3),
        call("audit", code="inconsistent_timestamps", later_ms=8 * DAY_MS, booting=True),
        call("maintenance", apply=False, later_ms=8 * DAY_MS),
        as_json(call("audit", limit=50), "tasks", "audit"),
        as_json(call("audit", limit=50, code="inconsistent_timestamps"), "tasks", "audit", "--code",
               "inconsistent_timestamps", "--fail-on", "error"),
    )  # fmt: skip
    yield from looks
    for number, change in enumerate((
        call("tasks.progress", text="x"), call("tasks.set_notify_policy", policy="silent"),
        call("tasks.set_delivery_status", status="failed"), call("tasks.finish", status="failed", ended_at=1),
        call("tasks.set_delivery_state", last_notified_event_at=5),
    )):  # fmt: skip
        for name in (f"t{number}", f"t{number + 5}"):
            yield Action(change.name, {**change.args, "task_id": name})
    yield from looks
    yield call("maintenance", later_ms=8 * DAY_MS)
    yield from looks


def absent_times() -> Iterator[Action]:
    """Rows of another version, each with some of the times, all of them different: which one an age is counted from."""
    known = {"started_at": 3 * MINUTE_MS, "last_event_at": 11 * MINUTE_MS, "ended_at": 7 * MINUTE_MS}
    step = 0
    for status in ("queued", "running", "failed", "lost"):
        is_over = status in ("failed", "lost")
        for mask in range(1 << len(known)):
            name = f"{status}{mask}"
            given = {column: START_MS + known[column] for place, column in enumerate(known) if mask >> place & 1}
            # What runs and has no start gets one at its creation, which moves its last event.
            moves = status == "running" and "started_at" not in given
            by_hand = {*([] if is_over else ["ended_at"]), *(["last_event_at"] if moves else [])}
            told = {column: time for column, time in given.items() if column not in by_hand}
            # A session backs each second one.
            runtime = "acp" if mask % 2 else "cli"
            yield create(name, status=status, label=BY_ANOTHERS_HAND, runtime=runtime, **told)
            # The hand writes what a caller can't, or can't leave out.
            as_made = {**({} if status == "running" else {"started_at": None}),
                       **({} if is_over else {"ended_at": None, "cleanup_after": None}), **told}  # fmt: skip
            wanted = {"created_at": START_MS, "cleanup_after": None, **{column: given.get(column) for column in known}}
            cells = {column: time for column, time in wanted.items() if as_made.get(column, "?") != time}
            for column, value in cells.items():
                yield _spoiled("tasks", name, column, value)
            step += 1 + len(cells)
    # From the first call on: before and after each threshold, counted from each of the times.
    for age_ms in (12, 14, 18, 22, 32, 34, 38, 42):
        for booting in (False, True):
            step += 1
            yield call("audit", booting=booting, later_ms=later(1, age_ms * MINUTE_MS, step))
    yield call("maintenance", apply=False)
    yield call("maintenance")
    yield call("tasks.list")


def spoiled_runs() -> Iterator[Action]:
    """An unreadable run stays unchanged, and the others are recovered."""
    for name in ("a", "b"):
        yield create(name)
        yield call("history.start", task_id=name, worker_id="w", run_id=name)
        yield call("history.open_session", run_id=name, session_id=f"s-{name}")
    # A task that can't be read doesn't keep its run from ending.
    for name in ("c", "d"):
        yield create(name)
        yield call("history.start", task_id=name, worker_id="w", run_id=f"{name}\n 2")
        yield _spoiled("tasks", name, "created_at", "soon")
    yield call("history.finish", run_id="c\n 2", status="success")
    for name, column, value in (("s-b1", "valid", 7), ("s-b2", "invalidated_at", "soon")):
        yield call("history.open_session", run_id="b", session_id=name)
        yield _spoiled("agent_sessions", name, column, value)
        yield call("history.list_sessions", run_id="b")
    yield _spoiled("task_history", "a", "started_at", "soon")
    yield from (
        call("history.get", run_id="a"), call("history.find", token="a"), call("history.running_workers"),  # noqa: S106 - a run
        call("history.finish", run_id="a", status="success"), call("history.open_session", run_id="a", session_id="s"),
        call("history.get_session", session_id="s-b1"), call("history.list_sessions", run_id="a"),
        call("history.invalidate_session", session_id="s-b1", reason="x"),
        call("history.open_session", run_id="b", session_id="s-b1"),
    )  # fmt: skip
    yield create("again", run_id="a")
    yield call("history.start", task_id="again", worker_id="w")
    yield call("history.read")
    yield call("history.list")
    yield call("recover")
    yield call("recover")


def callbacks() -> Iterator[Action]:
    """Hooks that act, observers that fail, receivers that raise and are overtaken."""
    number = 0
    for meanwhile in (
        None, call("tasks.finish", task_id="t", status="succeeded"), call("tasks.delete", task_id="t"),
        call("tasks.progress", task_id="t", text="late"), call("tasks.start", task_id="t"),
        call("tasks.finish", task_id="t", status="lost"), call("tasks.cancel", task_id="t"),
    ):  # fmt: skip
        for says in ("agrees", "nothing", "refuses", "raises"):
            number += 1
            yield create("t", runtime="acp", run_id="r", task=f"{number}")
            data = None if meanwhile is None else {"name": meanwhile.name, "args": meanwhile.args}
            yield Action("cancel_while", {"task_id": "t", "says": says, "meanwhile": data})
            yield call("tasks.delete", task_id="t")
    yield create("t", runtime="acp", task="while files are imported")
    yield call("legacy_file", name="f.json", content={"id": "old", "channel": "mail", "to": "you"})
    imports = {"name": "outbox.import_legacy", "args": {}}
    yield Action("cancel_while", {"task_id": "t", "says": "agrees", "meanwhile": imports})
    yield call("tasks.delete", task_id="t")
    for meanwhile in (call("tasks.finish", task_id="t", status="failed"), call("tasks.delete", task_id="t")):
        yield create("t", runtime="acp", task="in a thread")
        data = {"name": meanwhile.name, "args": meanwhile.args}
        yield Action("cancel_while", {"task_id": "t", "says": "agrees", "meanwhile": data, "thread": True})
        yield call("tasks.delete", task_id="t")
    yield create("o", label="observer raises")
    yield call("tasks.start", task_id="o")
    yield batch(call("tasks.progress", task_id="o", text="x"), create("o2"), call("tasks.delete", task_id="o"))
    seen = {"label": "observer writes"}
    yield create("w", **seen)
    yield call("tasks.progress", task_id="w", text="mine")
    yield batch(create("w2", **seen), create("w3", task="third", **seen), call("tasks.start", task_id="w2"))
    yield batch(create("w4", **seen), call("tasks.delete", task_id="w4"), create("w5", run_id="r", **seen))
    yield batch(create("w6", **seen), call("tasks.start", task_id="nobody"))
    for name, payload in (
        ("a", {"raises": "chat not found"}), ("b", {"raises": "reset"}), ("c", {"raises": ""}),
        ("d", {"elsewhere": True}), ("e", {"text": "x"}), ("f", {"elsewhere": True, "error": "reset"}),
        ("g", {"elsewhere": True, "raises": "chat not found"}), ("h", {"elsewhere": True, "takes_ms": 7, "error": "x"}),
    ):  # fmt: skip
        yield enqueue(name, payload)
    yield call("outbox.recover", cutoff=None)


def observers() -> Iterator[Action]:
    """Observers that come and go, have no method for an event, fail, or are none."""
    work: list[Any] = [
        ["create", "a"], ["create", "a"], ["batch", [["create", "b"], ["create", "a"], ["delete", "b"]]],
        ["restore", None], ["delete", "nobody"],
    ]  # fmt: skip
    yield call("observers.life", calls=[["open", []], *work])
    for ears in (["all"], ["fails", "all"], ["no restored", "no upserted", "no deleted", "fails"]):
        yield call("observers.life", calls=[
            ["open", ears], *work, ["configure", "left out"], *work, ["configure", None], *work, ["configure", ears],
            ["configure", 5], ["configure", ["deaf"]], ["observe", ["all", "deaf"]], *work, ["observe", ["all"]], *work,
            ["observe", []], *work,
        ])  # fmt: skip
    once: list[Any] = [["create", "c"], ["observe", ["all"]], ["create", "d"], ["delete", "c"], ["create", "d"]]
    for ears in (["exits"], ["all", "exits"], ["exits", "fails"]):
        yield call("observers.life", calls=[["open", []], ["observe", ears], *once])
    # One of them ends the process before the others were notified; by the next event some are no observers any more.
    for ears in (["exits", "all"], ["exits", "fails", "only deleted", "only upserted"]):
        for then in (
            ["observe", []], ["configure", None], ["configure", "left out"], ["configure", ["deaf"]],
            ["observe", ["all"]], ["configure", ["only upserted", "no deleted"]], ["observe", ["exits", *ears[1:]]],
        ):  # fmt: skip
            for after in (["delete", "c"], ["restore", None], ["batch", [["create", "c"], ["create", "e"]]]):
                yield call("observers.life", calls=[
                    ["open", []], ["create", "c"], ["observe", ears], ["create", "d"], then, after, ["create", "e"],
                ])  # fmt: skip


def followers() -> Iterator[Action]:
    """Observers on other stores; one of them knows the tasks by its notifications alone, while the store fails."""
    once: list[Any] = [
        ["create", "a"], ["create", "a"], ["batch", [["create", "b"], ["delete", "a"]]], ["restore", None],
        ["delete", "b"], ["delete", "b"],
    ]  # fmt: skip
    for kind in ("json", "memory", "sqlite"):
        for ears in (["all"], ["only restored"], ["only upserted", "fails"], ["only deleted"]):
            yield call("observers.life", kind=kind, calls=[["open", ears], *once])
            yield call("observers.life", calls=[["open", ears], *once, ["configure", ears], *once])
    work: list[Any] = [
        ["create", "a"], ["create", "b"], ["create", "a"],
        ["batch", [["create", "c"], ["create", "a"], ["delete", "b"]]], ["delete", "a"], ["create", "c"],
        ["create", "d"],
    ]  # fmt: skip
    ways = ("before", "after", "gone", "gone after", "twice", "twice after")
    for number in range(len(work)):
        # Where a call was not made, the later ones could not be either.
        calls = [*work[: number + 1], ["create", "e"], ["create", "e"]]
        for how in ways:
            yield call("observers.follow", kind="memory", calls=calls, fails={f"{number}": how})
            yield call("observers.follow", kind="memory", calls=calls, fails={f"{number}": how}, lacks=_NO_DELETION)


def moving_clocks() -> Iterator[Action]:
    """The clock moves during the call: it still counts as made at one time."""
    for tick_ms in (1, -1, DAY_MS):
        name = f"t{tick_ms}"
        yield Action("tasks.create", {**create(name, status="running").args, "tick_ms": tick_ms})
        yield call("tasks.progress", task_id=name, text="x", tick_ms=tick_ms)
        yield call("tasks.finish", task_id=name, status="lost", tick_ms=tick_ms)
        yield create(f"{name}b")
        yield call("tasks.start", task_id=f"{name}b", tick_ms=tick_ms)
        yield call("tasks.set_notify_policy", task_id=f"{name}b", policy="silent", tick_ms=tick_ms)
        yield create(f"{name}c")
        yield call("history.start", task_id=f"{name}c", worker_id="w", run_id=name, tick_ms=tick_ms)
        yield call("history.finish", run_id=name, status="success", tick_ms=tick_ms)
        for number in range(3):
            run = f"{name} {number}"
            yield create(run)
            yield call("history.start", task_id=run, worker_id="w", run_id=run)
            yield call("history.open_session", run_id=run, session_id=run)
        yield call("recover", tick_ms=tick_ms)


def many_rows() -> Iterator[Action]:
    """More rows of one owner than are read at once."""
    for first in range(0, 600, 200):
        yield batch(*(create(f"t{number}", task=f"{number % 7}") for number in range(first, first + 200)))
    yield call("tasks.list_for_owner", owner_key="main")
    yield call("audit", limit=3, later_ms=DAY_MS)
    yield call("maintenance", apply=False, later_ms=DAY_MS)
    # Text that is not UTF-8, in a row that is read after others.
    yield _spoiled("tasks", "t500", "error", {"hex": "61ff62"})
    yield call("tasks.list")
    # And one that can't be read among the first, which is reported once.
    yield _spoiled("tasks", "t3", "created_at", "soon")
    yield call("tasks.quarantined")


def workers() -> Iterator[Action]:
    """Real locks: an id is used once, lives until its release, and is free when its file is removed."""
    for place in ("directory", "memory", "file", "link"):
        yield call("workers.life", place=place, calls=[
        ["is_alive", "a"], ["hold", "a"], ["is_alive", "a"], ["hold", "a"], ["hold", "b"], ["release", "a"],
        ["release", "a"], ["is_alive", "a"], ["hold", "a"], ["clean", ["a"]], ["hold", "a"], ["clean", []],
        ["hold", "a"], ["retire", "a"], ["is_alive", "a"], ["retire", "a"], ["hold", "a"], ["clean", []],
        ["is_alive", "b"],
        ["release", "b"], ["hold", "c"], ["release", "a"], ["clean", []], ["clean", []],
    ])  # fmt: skip
        yield call("workers.life", place=place, calls=[
        ["clean", []], ["hold", ""], ["hold", "a b"], ["hold", "../x"], ["hold", "x" * 128], ["hold", "x" * 129],
        ["hold", ".x"], ["hold", "x.y_z-1"], ["hold", 5], ["is_alive", "../x"], ["is_alive", ""],
        ["retire", "nobody"], ["release", "nobody"],
    ])  # fmt: skip

    # Ids that look like others, or like files beside theirs.
    for place in ("directory", "memory"):
        for name in ("a.b", "a.lock", "A", "a-", "0", "x" * 128):
            yield call("workers.life", place=place, calls=[
                ["hold", "a"], ["hold", name], ["release", name], ["is_alive", "a"], ["clean", [name]], ["hold", name],
                ["clean", ["a"]], ["hold", name], ["release", "a"], ["is_alive", name], ["clean", []],
                ["release", name], ["clean", []], ["hold", name], ["retire", name], ["hold", name], ["is_alive", name],
            ])  # fmt: skip
    for place in ("directory", "memory"):
        yield call("workers.life", place=place, calls=[
            ["hold", "a"], ["there hold", "a"], ["is_alive", "a"], ["release", "a"], ["is_alive", "a"],
            ["there is_alive", "a"], ["release", "a"], ["clean", []], ["there clean", []], ["hold", "a"],
            ["there retire", "a"], ["is_alive", "a"], ["there hold", "a"], ["retire", "a"], ["there is_alive", "a"],
            ["there release", "a"], ["there is_alive", "a"], ["there clean", []],
        ])  # fmt: skip
    yield call("workers.life", calls=[
        ["hold", "a"], ["ask_together", "a"], ["release", "a"], ["ask_together", "a"], ["link", "odd"],
        ["is_alive", "odd"], ["hold", "odd"], ["clean", []], ["is_alive", "odd"], ["hold_without_locks", "new"],
        ["hold", "new"], ["hold_without_locks", "new"], ["is_alive", "new"],
    ])  # fmt: skip
    yield call("workers.work", calls=[
        ["hold", "a"], ["hold", "b"], ["hold", "c"], ["hold", "d"], ["start", "a"], ["claim", "b"], ["start", "c"],
        ["start", "c"], ["claim", "d"], ["start", "nobody"], ["claim", "nobody"], ["files", None], ["recover", None],
        ["release", "a"], ["release", "b"], ["start", "a"], ["claim", "b"], ["is_alive", "a"], ["recover", None],
        ["files", None], ["hold", "a"], ["hold", "b"], ["recover", None], ["send", None], ["files", None],
        ["recover", None], ["hold", "b"], ["files", None], ["release", "c"], ["release", "d"], ["send", None],
        ["files", None], ["clean", ["c", "d"]], ["recover", None], ["files", None],
        ["hold", "e"], ["start", "e"], ["spoil", "e"], ["release", "e"], ["recover", None], ["files", None],
        ["hold", "e"], ["hold", "f"], ["claim", "f"], ["hold", "g"], ["release", "f"], ["take_over", "g"],
        ["release", "g"], ["hold", "h"], ["take_over", "h"], ["send", None], ["release", "h"],
        ["recover", None], ["files", None], ["hold", "h"], ["send", None], ["recover", None], ["hold", "h"],
        ["claim", "h"], ["release", "h"], ["send_as", "h"], ["send_as", "i"], ["hold", "i"], ["files", None],
        ["recover", None], ["hold", "i"], ["recover_beside", "j"], ["files", None], ["hold", "j"],
    ])  # fmt: skip
    # A worker dies while a call waits for the write lock.
    yield call("workers.work", calls=[
        ["hold", "a"], ["start_dying", "a"], ["is_alive", "a"], ["hold", "b"], ["hold", "c"], ["start", "b"],
        ["start", "c"], ["recover_dying", "b"], ["files", None], ["recover", None], ["release", "c"], ["recover", None],
        ["files", None],
    ])  # fmt: skip
    # What refers to a worker, or no longer does, in a batch that is rolled back or not.
    for kind in ("undone", "batched"):
        yield call("workers.work", calls=[
            ["hold", "a"], ["hold", "b"], ["hold", "c"], ["start", "a"], ["claim", "b"], [kind, ["start", "c"]],
            [kind, ["claim", "c"]], ["release", "a"], [kind, ["recover", None]], ["files", None], ["hold", "a"],
            ["release", "b"], ["release", "c"], ["recover", None], ["files", None], ["hold", "a"], ["hold", "c"],
            [kind, ["recover", None]], ["files", None], ["send", None], [kind, ["recover", None]], ["files", None],
            ["recover", None], ["files", None],
        ])  # fmt: skip
    # Two workers of one task: it is lost when both are dead.
    for first, then in ("ab", "ba"):
        yield call("workers.work", calls=[
            ["hold", "a"], ["hold", "b"], ["start", "a"], ["start_again", "b"], ["maintain", DAY_MS],
            ["release", first], ["maintain", 0], ["maintain", DAY_MS], ["release", then], ["maintain", DAY_MS],
        ])  # fmt: skip


SCRIPTS: Final = (
    workers,
    spoiled_rows,
    contradicting_rows,
    absent_times,
    spoiled_runs,
    callbacks,
    observers,
    followers,
    moving_clocks,
    many_rows,
)
