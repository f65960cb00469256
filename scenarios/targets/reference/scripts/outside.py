"""Scripts of output for people, and of other stores instead of SQLite."""

from collections.abc import Iterator
from typing import Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import (
    DAY_MS,
    MINUTE_MS,
    batch,
    call,
    create,
    enqueue,
    later,
    within,
)


def _said(means: Action, *argv: str, later_ms: int = 0) -> Action:
    """The output for people."""
    data = {"name": means.name, "args": means.args}
    return Action("command", {"argv": [*argv], "means": data, "later_ms": later_ms})


def on_terminals() -> Iterator[Action]:
    """Lists as tables on a terminal, empty and not."""

    def lists() -> Iterator[Action]:
        for part, name in (("tasks", "tasks.list"), ("runs", "history.list"), ("outbox", "outbox.list")):
            shown = {"argv": [part, "list"], "means": {"name": name, "args": {}}, "terminal": True}
            yield Action("command", shown)

    yield from lists()
    for name in ("a", "an-id-that-is-long-" * 4):
        yield create(name, task=f"[bold]{name}[/bold]  text", status="queued")
        yield call("history.start", task_id=name, worker_id="w", run_id=f"run-{name}", agent="me")
        yield enqueue(name, target="[red]you")
    yield from lists()


def _runs_of_commands() -> Iterator[Action]:
    """A run with its sessions, and what a recovery says of it."""
    yield create("other")
    yield call("history.start", task_id="other", worker_id="w", run_id="run-other")
    yield call("history.open_session", run_id="run-other", session_id="of another run")
    yield create("s")
    yield call("history.start", task_id="s", worker_id="w", run_id="run-s", agent="me")
    for name in ("one", "two", "three"):
        yield call("history.open_session", run_id="run-s", session_id=name)
    yield call("history.invalidate_session", session_id="two", reason="why")
    yield _said(call("history.find", token="s"), "runs", "show", "s")  # noqa: S106 - a task
    yield _said(call("recover"), "recover")
    yield _said(call("recover"), "recover")


def shown_commands() -> Iterator[Action]:
    """The output of commands for people, in a pipe."""
    yield _said(call("tasks.list"), "tasks", "list")
    yield create("t", run_id="r", child_session_key="c", label="a  b", status="running", started_at=1_600)
    yield create("late", owner_key="x", task="two\nlines [b]", delivery_status="failed")
    yield create("lost", status="lost", error="gone", ended_at=7)
    yield create("lost2", status="lost", error="\x08\x08red\x07", ended_at=7, owner_key="z")
    yield create("lost3", status="lost")
    yield _said(call("audit", limit=50), "tasks", "audit", later_ms=-MINUTE_MS + 1_600)
    yield _said(call("tasks.list"), "tasks", "list")
    yield _said(call("tasks.list_for_owner", owner_key="x"), "tasks", "list", "--owner", " x ")
    for token in ("t", "late", "lost"):
        yield _said(call("tasks.find", token=token), "tasks", "show", token)
    for filters in ({}, {"severity": "warn"}, {"code": "lost"}, {"limit": 1}, {"severity": "error", "limit": 1}):
        options = [text for name, value in filters.items() for text in (f"--{name}", str(value))]
        for later_ms in (0, 3_661_000, DAY_MS, 5 * DAY_MS + 1):
            yield _said(call("audit", **{"limit": 50, **filters}), "tasks", "audit", *options, later_ms=later_ms)
    yield _said(call("audit", limit=None), "tasks", "audit", "--limit", "0")
    yield _said(call("tasks.set_notify_policy", task_id="t", policy="silent"), "tasks", "notify", "t", "silent")
    yield _said(call("tasks.finish", task_id="t", status="failed"), "tasks", "finish", "r", "failed")
    yield _said(call("tasks.start", task_id="late"), "tasks", "start", "late")
    yield _said(call("tasks.cancel", task_id="late"), "tasks", "cancel", "late")
    yield _said(call("tasks.delete", task_id="late"), "tasks", "delete", "late")
    yield create("bad")
    yield call("spoiled_row", table="tasks", key="bad", column="runtime", value="shell")
    for means, *argv in (
        (call("tasks.list"), "tasks", "list"), (call("audit", limit=50), "tasks", "audit"),
        (call("history.list"), "runs", "list"),
    ):  # fmt: skip
        yield _said(means, *argv)
    made: dict[str, object] = {"id": "unnamed", "task": "text", "runtime": "cli", "owner_key": "me"}
    made |= dict.fromkeys(("requester_session_key", "scope_kind", "run_id", "child_session_key", "label"))
    yield _said(Action("tasks.create", made), "tasks", "create", "text", "--owner", "me")
    yield _said(call("maintenance", apply=False), "tasks", "maintenance")
    yield _said(call("maintenance", apply=True), "tasks", "maintenance", "--apply")
    yield _said(call("maintenance", apply=False), "tasks", "maintenance")
    yield create("v")
    yield call("history.start", task_id="v", worker_id="w", run_id="run", agent="me")
    yield _said(call("history.list"), "runs", "list")
    yield call("history.finish", run_id="run", status="success")
    yield _said(call("history.list"), "runs", "list")
    yield from _runs_of_commands()
    yield call("spoiled_row", table="task_history", key="run", column="started_at", value="soon")
    yield _said(call("history.list"), "runs", "list")
    message = {"channel": "mail", "target": "me", "message_id": "unnamed", "payload": {}}
    yield _said(Action("outbox.enqueue", message), "outbox", "enqueue", "mail", "me", "{}")
    yield enqueue("retried", target="a  b")
    yield call("outbox.fail", message_id="retried", error="connection reset")
    yield enqueue("given-up")
    yield call("outbox.move_to_failed", message_id="given-up", reason="why")
    yield _said(call("outbox.list"), "outbox", "list")
    yield _said(call("outbox.get", message_id="retried"), "outbox", "show", "retried")
    yield call("outbox.ack", message_id="unnamed")
    yield _said(call("outbox.get", message_id="unnamed"), "outbox", "show", "unnamed")
    yield _said(call("outbox.prune", age_ms=1.0), "outbox", "prune", "--age-ms", "1")
    yield enqueue("odd")
    yield call("spoiled_row", table="message_outbox", key="odd", column="queued_at", value="soon")
    yield _said(call("outbox.list"), "outbox", "list")


def shown_ages() -> Iterator[Action]:
    """An age is shown in its two largest units, to the second."""
    yield create("t", delivery_status="failed")
    hour_ms = 60 * MINUTE_MS
    for step, age_ms in enumerate((
        0, 999, 1_000, MINUTE_MS - 1, MINUTE_MS, MINUTE_MS + 1_000, hour_ms - 1, hour_ms, hour_ms + MINUTE_MS,
        DAY_MS - 1, DAY_MS, DAY_MS + hour_ms,
    ), 2):  # fmt: skip
        yield _said(call("audit", limit=50), "tasks", "audit", later_ms=later(1, age_ms, step))


_OPTIONAL: Final = (
    "list_for_owner", "upsert_task", "upsert_task_with_delivery", "delete_task", "delete_task_with_delivery",
    "upsert_delivery", "delete_delivery", "close",
)  # fmt: skip


_CHANGES: Final = frozenset({
    "tasks.create", "tasks.set_delivery_state", "tasks.start", "tasks.mark_running_by_run", "tasks.delete", "batch",
    "batch.nested",
})  # fmt: skip


def _refused_inside() -> Iterator[Action]:
    """A refused call, which its caller swallows, in a batch that has changed something or will."""
    wrong = call("tasks.start", task_id="nobody")
    for calls, inner, after in (
        ((create("h"),), (wrong,), (call("tasks.start", task_id="h"),)), ((), (create("i"), wrong), ()),
        ((create("j"),), (create("k"), wrong), (call("tasks.list"),)),
    ):  # fmt: skip
        parts = {"calls": calls, "inner": inner, "after": after}
        yield call("batch.nested", **{name: [within(one) for one in some] for name, some in parts.items()})


def other_stores() -> Iterator[Action]:
    """A store that offers all optional methods, all but one, or none; and one that fails at each call in each way."""
    calls = (
        create("a"), create("b", requester_origin={"a": 1}, run_id="r", runtime="acp"),
        create("b2", requester_origin=5, run_id="r", runtime="acp", label="filled"),
        call("tasks.set_delivery_state", task_id="a", last_notified_event_at=5), call("tasks.start", task_id="a"),
        call("tasks.start", task_id="a"), call("tasks.mark_running_by_run", run_id="r"),
        call("tasks.list_for_owner", owner_key="main"), call("tasks.list_fresh_for_owner", owner_key=" main "),
        call("tasks.list_fresh_for_owner", owner_key="nobody"), call("tasks.get_delivery", task_id="b"),
        batch(create("c", owner_key="x"), call("tasks.finish", task_id="b", status="failed"), call("tasks.list")),
        batch(create("d"), call("tasks.start", task_id="nobody")), batch(call("tasks.get", task_id="a")),
        batch(create("d"), call("tasks.list_fresh_for_owner", owner_key="main"), call("audit")),
        batch(call("tasks.delete", task_id="d"), call("tasks.list_fresh_for_owner", owner_key="main")),
        batch(create("d"), call("tasks.start", task_id="a")), batch(call("tasks.get", task_id="a"), create("a")),
        create("e", status="succeeded", ended_at=5, requester_origin=1), create("f", status="lost", ended_at=7),
        call("audit"), call("maintenance"), call("tasks.delete", task_id="b"), call("tasks.delete", task_id="c"),
        create("b"), call("tasks.get", task_id="a"), call("tasks.delete", task_id="a"),
        batch(create("g"), call("close")), call("history.list"), call("outbox.list"), call("recover"),
        *_refused_inside(), create("g"), call("tasks.list_fresh_for_owner", owner_key="mai"),
        create("h", requester_origin=1), batch(call("tasks.delete", task_id="h"), create("h")),
        call("tasks.get_delivery", task_id="h"),
    )  # fmt: skip
    data = [within(one) for one in calls]
    for kind in ("json", "memory", "sqlite"):
        for lacks in ((), *((one,) for one in _OPTIONAL), _OPTIONAL):
            yield call("stores.life", kind=kind, lacks=list(lacks), calls=data)
    for how in ("before", "after", "gone", "gone after", "twice", "twice after"):
        for lacks in ((), _OPTIONAL):
            for number in range(len(calls)):
                if calls[number].name in _CHANGES:
                    yield call("stores.life", kind="memory", lacks=list(lacks), calls=data, fails={f"{number}": how})
    # A store that hands out other objects than it was given.
    for how in ("before", "after"):
        for number in (1, 3):
            yield call("stores.life", kind="json", calls=data, fails={f"{number}": how})
    # What is owed stays owed when the next change is passed to the store alone.
    for how in ("twice", "gone after"):
        yield call("stores.life", kind="memory", calls=data, fails={"3": how, "4": "securing"})


def odd_stores() -> Iterator[Action]:
    """A store with None in the place of a method, and one that fails at the last call: its end makes up for it."""
    calls = (
        create("a", requester_origin=1), create("b"), call("tasks.start", task_id="a"),
        call("tasks.set_delivery_state", task_id="b", last_notified_event_at=5), call("tasks.delete", task_id="b"),
        call("tasks.list_fresh_for_owner", owner_key="main"), call("tasks.delete", task_id="a"),
    )  # fmt: skip
    for one in _OPTIONAL:
        data = [within(each) for each in calls]
        yield call("stores.life", kind="memory", lacks=[one], nones=True, calls=data)
    for how in ("before", "after", "gone", "gone after", "twice", "twice after"):
        data = [within(each) for each in calls[:3]]
        yield call("stores.life", kind="memory", calls=data, fails={"2": how})
    # What is owed stays owed when the store can't be asked.
    asked = [within(one) for one in (create("a"), call("tasks.start", task_id="a"), call("tasks.list"))]
    for how in ("gone", "gone after", "twice", "twice after"):
        yield call("stores.life", kind="memory", calls=asked, fails={"1": how, "2": "away"})


def spoiled_stores() -> Iterator[Action]:
    """A record that can't be read, in a snapshot or in SQLite by the interface of any other store.

    Each change saves it again, and it goes with its task alone: another task of that id has none of it.
    """
    good, bad = create("good", requester_origin=1), create("bad", requester_origin={"a": 1})
    looks = (call("tasks.quarantined"), call("tasks.list"), call("tasks.get_delivery", task_id="bad"))
    for kind, table, column in (
        ("sqlite", "task_delivery_state", "requester_origin"), ("sqlite", "tasks", "created_at"),
        ("json", "task_delivery_state", "last_notified_event_at"), ("json", "tasks", "created_at"),
    ):  # fmt: skip
        spoiled = call("spoiled_row", table=table, key="bad", column=column, value="{")
        calls = (
            good, bad, spoiled, call("tasks.restore"), call("tasks.quarantined"), call("tasks.start", task_id="good"),
            create("last"), call("tasks.set_delivery_state", task_id="bad", last_notified_event_at=5), create("bad"),
            call("tasks.start", task_id="bad"), call("tasks.quarantined"),
            batch(call("tasks.delete", task_id="good"), create("good")), call("tasks.restore"),
            call("tasks.quarantined"), call("tasks.list"), call("tasks.delete", task_id="bad"), *looks, create("bad"),
            *looks, call("tasks.restore"), *looks, call("tasks.delete", task_id="bad"), call("tasks.restore"), *looks,
        )  # fmt: skip
        for lacks in ((), _OPTIONAL):
            data = [within(one) for one in calls]
            yield call("stores.life", kind=kind, lacks=list(lacks), calls=data)
        if kind == "json":
            # The file is removed by another's hand: what could not be read has gone with it.
            gone = (call("removed_file"), call("tasks.restore"))
            later = (good, bad, spoiled, call("tasks.restore"), *gone, *looks, good, call("tasks.restore"), *looks)
            yield call("stores.life", kind=kind, calls=[within(one) for one in later])


def store_errors() -> Iterator[Action]:
    """The kind of each driver error, and whether a retry makes sense."""
    calls = [{"name": one.name, "args": one.args} for one in (create("a"), call("tasks.start", task_id="a"))]
    texts = (
        "database is locked", "database table is locked: t", "attempt to write a readonly database", "disk I/O error",
        "database disk image is malformed", "database or disk is full", "unable to open database file",
        "file is not a database", "something else", "",
    )  # fmt: skip
    for raises in (
        {"memory": True}, {"ours": True}, *({"text": text} for text in texts),
        *({"code": code} for code in (*range(1, 30), 3_082, 267, 517, 1_290, 65_535)),
    ):  # fmt: skip
        for how in ("before", "gone"):
            yield call("stores.life", kind="memory", calls=calls, fails={"0": how}, raises=raises)


def snapshots() -> Iterator[Action]:
    """A JSON snapshot of another version, or edited by hand."""
    task: dict[str, object] = {
        "task_id": "a", "runtime": "cli", "requester_session_key": "me", "owner_key": "me", "scope_kind": "session",
        "task": "work", "status": "queued", "delivery_status": "pending", "notify_policy": "done_only", "created_at": 5,
    }  # fmt: skip
    other = {**task, "task_id": "b", "started_at": 7, "terminal_outcome": None}
    state = {"task_id": "a", "requester_origin": {"a": [1]}, "last_notified_event_at": 5}
    whole = {"version": 1, "tasks": [task, other], "deliveries": [state]}
    yield call("open.snapshot", document=whole)
    yield call("open.snapshot", document={**whole, "of a newer version": 1})
    for wrong in (
        {"status": "paused"}, {"runtime": 5}, {"scope_kind": None}, {"created_at": "soon"}, {"started_at": 1.5},
        {"of a newer version": 1}, {"terminal_outcome": "done"}, {"label": ["x"]},
    ):  # fmt: skip
        yield call("open.snapshot", document={**whole, "tasks": [{**task, **wrong}, other]})
    for name in task:
        without = {key: value for key, value in task.items() if key != name}
        yield call("open.snapshot", document={**whole, "tasks": [without, other]})
    for contradicts in (
        {"created_at": 9, "started_at": 5}, {"started_at": 7, "ended_at": 6, "status": "failed"},
        {"last_event_at": 3}, {"ended_at": 8}, {"owner_key": " me "},
        {"created_at": 9, "owner_key": "me", "status": "lost", "ended_at": 1},
    ):  # fmt: skip
        yield call("open.snapshot", document={**whole, "tasks": [other, {**task, **contradicts}]})
    odds: tuple[object, ...] = (
        {**state, "of a newer version": 1}, {**state, "last_notified_event_at": "x"}, {}, [], None, "a",
        {"task_id": "b"}, {"task_id": "nobody"},
    )  # fmt: skip
    for odd in odds:
        yield call("open.snapshot", document={**whole, "deliveries": [state, odd]})
    yield call("open.snapshot", document={**whole, "tasks": [5, None, other]})
    # One id twice: nothing tells which of the two holds.
    for twice in ([task, task, other], [task, other, {**task, "task": "play"}], [{**task, "status": "paused"}, task]):
        yield call("open.snapshot", document={**whole, "tasks": twice})
    yield call("open.snapshot", document={**whole, "deliveries": [state, {"task_id": "b"}, {"task_id": "a"}]})
    for errno in (0, 1, 5, 13, 28, 30, 122):
        yield call("open.snapshot", document=whole, errno=errno)
    for document in ("", "{", "[]", "5", {"version": 1}, {**whole, "version": 2}, {**whole, "version": "1"},
                     {**whole, "version": 0}, {**whole, "tasks": {}}, {**whole, "deliveries": None}):  # fmt: skip
        yield call("open.snapshot", document=document)


def openings() -> Iterator[Action]:
    """Openings that are refused and change nothing, access to the files, and the result of each mode and level."""
    for before in (
        "nothing", "directory", "ledger", "wide", "sticky", "of a group", "empty", "text", "short", "newer", "damaged",
        "index differs", "link", "of another", "log is a link", "no file", "read-only", "shared", "file", "other mode",
        "version 1", "version 2",
        "log", "newer in its log", "newer late in its log", "newer for a while", "newer with junk after it",
        "newer in a torn frame", "newer without its commit", "newer in an old frame", "newer in a wrong frame",
        "newer in a log that is none",
        "newer in a wrong log", "newer in a log with a torn head", "hot journal", "newer before a hot journal",
        "short log", "newer in a log of small pages", "newer in a log of large pages",
        "log of another machine", "newer in a log of another machine", "read-only directory", "log alone",
        "index is a pipe", "index is a directory", "log is a directory",
        "journal is a directory", "wal is read-only", "shm is read-only", "journal is read-only",
        *(f"{one}, {mode}" for one in ("text", "short", "newer", "other mode") for mode in ("persist", "truncate")),
    ):  # fmt: skip
        yield call("open.once", before=before)
    for before in ("nothing", "ledger"):
        # Also one that is older as a text.
        for needs in ([99, 98, 97], [3, 100, 0]):
            yield call("open.too_old", before=before, needs=needs)
    for named in (":memory:", "of :memory:", "50%41 q?mode=ro&x#y", "a\nb 'c' \"d\" ü", "file:x"):
        for before in ("nothing", "log"):
            yield call("open.once", before=before, named=named)
    yield call("open.once", before="nothing", under="a/b")
    yield call("open.once", before="nothing", state_dir=":memory:")
    yield call("open.once", before="nothing", state_dir=":memory:", synchronous="off")
    for many_ms in (7, 0, True, 7.0, -1, "7", 2**31 - 1, 2**31):
        yield call("open.once", before="nothing", busy_timeout_ms=many_ms)
    yield call("open.once", before="ledger", reader=True)
    yield call("open.once", before="ledger", idle=True)
    for journal_mode in (None, "wal", "delete", "truncate", "persist", "WAL", "memory"):
        for synchronous in (None, "off", "normal", "full", "extra", "FULL"):
            yield call("open.once", before="directory", journal_mode=journal_mode, synchronous=synchronous)
    yield call("open.once", before="other mode", journal_mode="delete")
    yield call("open.once", before="ledger", state_dir="")


def typed_options() -> Iterator[Action]:
    """The options before a command and the environment: where the ledger is, and how it is opened."""
    where = ("--state-dir", "{home}/state")
    making = ("tasks", "create", "text", "--owner", "me")
    for argv in (making, ("tasks", "list"), ("tasks", "audit"), ("tasks", "maintenance"), ("recover",)):
        yield call("open.typed", argv=[*where, *argv])
        yield call("open.typed", argv=[*where, *argv], variable="{home}/other")
        yield call("open.typed", argv=[*argv], variable="{home}/other")
        for before in ("ledger", "text", "newer", "newer in its log", "link", "of another", "damaged", "other mode",
                       "newer in a log of another machine"):  # fmt: skip
            yield call("open.typed", argv=[*where, *argv], before=before)
    # A look, which does not prepare what it looks at, meets each of them.
    for before in (
        "nothing", "directory", "empty", "short", "no file", "file", "shared", "read-only", "log is a link",
        "index differs", "version 1", "version 2", "hot journal", "newer before a hot journal", "newer late in its log",
        "index is a pipe", "log is a directory", "journal is a directory",
        "wal is read-only", "newer, persist",
    ):  # fmt: skip
        yield call("open.typed", argv=[*where, "tasks", "audit"], before=before)
    for mode in ("wal", "delete", "truncate", "persist"):
        for before in ("nothing", "ledger", "other mode"):
            yield call("open.typed", argv=[*where, "--journal-mode", mode, *making], before=before)
    for wrong in ("", ":memory:"):
        yield call("open.typed", argv=["--state-dir", wrong, *making])
    yield call("open.typed", argv=None, variable="{home}/other")
    for variable in ("", None):
        yield call("open.typed", argv=None, variable=variable)
        for argv in (making, ("tasks", "list"), ("tasks", "audit")):
            yield call("open.typed", argv=[*argv], variable=variable)
    yield call("open.typed", argv=None, variable="{home}/state", before="newer")
    # An answer, and a warning, that can't be written.
    for words in (making, ("tasks", "list"), ("tasks", "list", "--json"), ("tasks", "audit")):
        yield call("open.unwritten", argv=words)
    yield call("open.unwritten", argv=("tasks", "audit"), stream="stderr")


def typed_timeouts() -> Iterator[Action]:
    """How long a command waits for a lock: the shortest and the longest time, and one that SQLite can't wait."""
    lines = (("tasks", "create", "text", "--owner", "me"), ("tasks", "audit"), ("tasks", "maintenance"))
    for many_ms in (0, 70, 2**31 - 1, 2**31):
        for words in lines:
            argv = ["--state-dir", "{home}/state", "--busy-timeout-ms", f"{many_ms}", *words]
            yield call("open.typed", argv=argv, before="ledger")


SCRIPTS: Final = (
    shown_commands,
    shown_ages,
    on_terminals,
    other_stores,
    odd_stores,
    spoiled_stores,
    store_errors,
    snapshots,
    openings,
    typed_options,
    typed_timeouts,
)
