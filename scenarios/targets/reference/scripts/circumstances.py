"""Scripts of circumstances: rows that others have spoiled, callbacks that act, clocks that move, commands."""

from collections.abc import Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import DAY_MS, batch, call, create, enqueue


def _spoiled(table: str, key: str, column: str, value: Any) -> Action:
    return call("spoiled_row", table=table, key=key, column=column, value=value)


def spoiled_rows() -> Iterator[Action]:
    """A row that can't be read is reported, and the others are as they were."""
    for number, (column, value) in enumerate(
        (
            ("status", "paused"), ("delivery_status", ""), ("notify_policy", "loud"), ("created_at", "soon"),
            ("ended_at", 1.5), ("last_event_at", "x"), ("cleanup_after", "never"), ("runtime", "shell"),
            ("scope_kind", ""), ("terminal_outcome", "done"),
        )
    ):  # fmt: skip
        yield create(f"t{number}", run_id="r", runtime="acp", task=f"{number}")
        yield create("whole", run_id="r", runtime="acp", child_session_key="c")
        yield _spoiled("tasks", f"t{number}", column, value)
        yield create(f"t{number}")
        yield call("tasks.get", task_id=f"t{number}")
        yield call("tasks.quarantined")
        yield call("tasks.mark_running_by_run", run_id="r")
        yield call("tasks.list")
        yield call("audit", later_ms=DAY_MS)
        yield call("tasks.delete", task_id="whole")
    yield create("d", requester_origin={"a": 1})
    yield _spoiled("task_delivery_state", "d", "requester_origin", "{")
    yield call("tasks.get_delivery", task_id="d")
    yield call("tasks.progress", task_id="d", text="x")
    yield call("maintenance", later_ms=30 * DAY_MS)


def spoiled_runs() -> Iterator[Action]:
    """A run that can't be read stays as it is, and the others are recovered."""
    for name in ("a", "b"):
        yield create(name)
        yield call("history.start", task_id=name, worker_id="w", run_id=name)
        yield call("history.open_session", run_id=name, session_id=f"s-{name}")
    yield _spoiled("task_history", "a", "started_at", "soon")
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
    ):  # fmt: skip
        for says in ("agrees", "nothing", "refuses", "raises"):
            number += 1
            yield create("t", runtime="acp", task=f"{number}")
            data = None if meanwhile is None else {"name": meanwhile.name, "args": meanwhile.args}
            yield Action("cancel_while", {"task_id": "t", "says": says, "meanwhile": data})
            yield call("tasks.delete", task_id="t")
    yield create("o", label="observer raises")
    yield call("tasks.start", task_id="o")
    yield batch(call("tasks.progress", task_id="o", text="x"), create("o2"), call("tasks.delete", task_id="o"))
    for name, payload in (
        ("a", {"raises": "chat not found"}), ("b", {"raises": "reset"}), ("c", {"raises": ""}),
        ("d", {"elsewhere": True}), ("e", {"text": "x"}),
    ):  # fmt: skip
        yield enqueue(name, payload)
    yield call("outbox.recover", cutoff=None)


def moving_clocks() -> Iterator[Action]:
    """The clock moves during the call: it was made at one time all the same."""
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


def many_rows() -> Iterator[Action]:
    """More rows of one owner than are read at once."""
    for first in range(0, 300, 100):
        yield batch(*(create(f"t{number}", task=f"{number % 7}") for number in range(first, first + 100)))
    yield call("tasks.list_for_owner", owner_key="main")
    yield call("audit", limit=3, later_ms=DAY_MS)
    yield call("maintenance", apply=False, later_ms=DAY_MS)


def _typed(means: Action, *argv: str) -> Action:
    return Action("command", {"argv": [*argv, "--json"], "means": {"name": means.name, "args": means.args}})


def task_commands() -> Iterator[Action]:
    """The commands of tasks: what it prints, and its exit code."""

    yield create("t", run_id="r", child_session_key="c")
    yield create("acp", runtime="acp", owner_key="x")
    yield _typed(call("tasks.list"), "tasks", "list")
    yield _typed(
        call("tasks.list", runtime="acp", status="queued"), "tasks", "list", "--runtime", "acp", "--status", "queued"
    )
    yield _typed(call("tasks.list_for_owner", owner_key="x"), "tasks", "list", "--owner", "x")
    for token in ("t", "r", " c ", "nobody"):
        yield _typed(call("tasks.find", token=token), "tasks", "show", token)
    yield _typed(call("tasks.start", task_id="t"), "tasks", "start", "r")
    yield _typed(call("tasks.start", task_id="t"), "tasks", "start", "t")
    yield _typed(call("tasks.start", task_id="nobody"), "tasks", "start", "nobody")
    yield _typed(call("tasks.set_notify_policy", task_id="t", policy="silent"), "tasks", "notify", "t", "silent")
    report = {"error": "e", "terminal_summary": "s", "run_id": "r"}
    said = ("--error", "e", "--summary", "s", "--run", "r")
    yield _typed(call("tasks.finish", task_id="t", status="lost", **report), "tasks", "finish", "t", "lost", *said)
    yield _typed(call("tasks.finish", task_id="t", status="failed", **report), "tasks", "finish", "t", "failed", *said)
    yield _typed(call("tasks.cancel", task_id="t"), "tasks", "cancel", "t")
    yield create("u")
    yield _typed(call("tasks.cancel", task_id="u"), "tasks", "cancel", "u")
    yield _typed(call("tasks.delete", task_id="u"), "tasks", "delete", "u")
    fields = {
        "owner_key": "me", "requester_session_key": "q", "scope_kind": "session", "run_id": "z", "label": "l",
        "child_session_key": "c", "parent_flow_id": "f", "notify_policy": "silent", "runtime": "cron",
    }  # fmt: skip
    options = (
        "--owner", "me", "--requester", "q", "--scope", "session", "--run", "z", "--child-session", "c", "--flow", "f",
        "--label", "l", "--notify", "silent", "--runtime", "cron",
    )  # fmt: skip
    made = Action("tasks.create", {"id": "unnamed", "task": "text", **fields})
    yield _typed(made, "tasks", "create", "text", *options)


def run_commands() -> Iterator[Action]:
    """Those of the upkeep and of runs."""
    yield create("t", status="lost")
    wanted: tuple[dict[str, Any], ...] = ({}, {"severity": "error"}, {"code": "lost"}, {"limit": 1})
    for known in wanted:
        filters = [text for name, value in known.items() for text in (f"--{name}", str(value))]
        for fail_on in ((), ("--fail-on", "warn"), ("--fail-on", "error")):
            yield _typed(call("audit", **{"limit": 50, **known}), "tasks", "audit", *filters, *fail_on)
    yield _typed(call("maintenance", apply=False), "tasks", "maintenance")
    yield create("v")
    yield call("history.start", task_id="v", worker_id="w", run_id="run")
    yield call("history.open_session", run_id="run", session_id="s")
    yield _typed(call("history.list"), "runs", "list")
    yield _typed(call("history.list", task_id="v", worker_id="w", status="running"), "runs", "list", "--task", "v",
                "--worker", "w", "--status", "running")  # fmt: skip
    yield _typed(call("history.find", token="v"), "runs", "show", "v")  # noqa: S106 - a task
    yield _typed(call("history.find", token="nobody"), "runs", "show", "nobody")  # noqa: S106 - a task
    yield _typed(call("maintenance", apply=True), "tasks", "maintenance", "--apply")
    yield _typed(call("recover"), "recover")


def outbox_commands() -> Iterator[Action]:
    """Those of the outbox."""
    message = {"channel": "mail", "target": "me", "idempotency_key": "k", "turn_id": "t", "account_id": "a"}
    made = Action("outbox.enqueue", {**message, "dispatch_kind": "final", "payload": {"a": 1}, "message_id": "unnamed"})
    for _ in range(2):
        yield _typed(made, "outbox", "enqueue", "mail", "me", '{"a": 1}', "--key", "k", "--turn", "t", "--account", "a",
                    "--kind", "final")  # fmt: skip
    yield enqueue("m")
    yield _typed(call("outbox.list"), "outbox", "list")
    yield _typed(
        call("outbox.list", status="queued", channel="mail"),
        "outbox",
        "list",
        "--status",
        "queued",
        "--channel",
        "mail",
    )
    yield _typed(call("outbox.get", message_id="m"), "outbox", "show", "m")
    yield _typed(call("outbox.get", message_id="nobody"), "outbox", "show", "nobody")
    yield call("outbox.ack", message_id="m")
    yield call("outbox.ack", message_id="unnamed")
    for age in ("0", "nan", "1"):
        yield _typed(call("outbox.prune", age_ms=float(age)), "outbox", "prune", "--age-ms", age)
    for name, target in (("one", "me"), ("bad", " ")):
        yield call("legacy_file", name=f"{name}.json", content={"id": name, "channel": "mail", "to": target})
    means = {"name": "outbox.import_legacy", "args": {}}
    yield Action("command", {"argv": ["outbox", "import", "{legacy}"], "means": means})
    yield _typed(call("outbox.recover", cutoff=None), "outbox", "recover", "--deliver-command", "true")


def workers() -> Iterator[Action]:
    """Real locks: an id is used once, lives until it is let go of, and is free when its file is cleaned away."""
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


SCRIPTS: Final = (
    workers,
    spoiled_rows,
    spoiled_runs,
    callbacks,
    moving_clocks,
    many_rows,
    task_commands,
    run_commands,
    outbox_commands,
)
