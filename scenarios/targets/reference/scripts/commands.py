"""Scripts of commands: what each prints as JSON, its exit code, and what the program of a delivery may do."""

from collections.abc import Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import DAY_MS, START_MS, as_json, call, create, enqueue


def task_commands() -> Iterator[Action]:
    """The commands of tasks: their output and exit code."""

    yield create("t", run_id="r", child_session_key="c")
    yield create("acp", runtime="acp", owner_key="x")
    yield as_json(call("tasks.list"), "tasks", "list")
    yield as_json(
        call("tasks.list", runtime="acp", status="queued"), "tasks", "list", "--runtime", "acp", "--status", "queued"
    )
    # A blank filter is one: nothing has that key.
    for owner in ("x", "", " "):
        yield as_json(call("tasks.list_for_owner", owner_key=owner), "tasks", "list", "--owner", owner)
    for blank in ("", " "):
        yield as_json(call("history.list", task_id=blank), "runs", "list", "--task", blank)
        yield as_json(call("history.list", worker_id=blank), "runs", "list", "--worker", blank)
        yield as_json(call("outbox.list", channel=blank), "outbox", "list", "--channel", blank)
    for token in ("t", "r", " c ", "nobody"):
        yield as_json(call("tasks.find", token=token), "tasks", "show", token)
    yield as_json(call("tasks.start", task_id="t"), "tasks", "start", "r")
    yield as_json(call("tasks.start", task_id="t"), "tasks", "start", "t")
    yield as_json(call("tasks.start", task_id="nobody"), "tasks", "start", "nobody")
    yield as_json(call("tasks.set_notify_policy", task_id="t", policy="silent"), "tasks", "notify", "t", "silent")
    report = {"error": "e", "terminal_summary": "s", "run_id": "r"}
    said = ("--error", "e", "--summary", "s", "--run", "r")
    yield as_json(call("tasks.finish", task_id="t", status="lost", **report), "tasks", "finish", "t", "lost", *said)
    yield as_json(call("tasks.finish", task_id="t", status="failed", **report), "tasks", "finish", "t", "failed", *said)
    yield as_json(call("tasks.cancel", task_id="t"), "tasks", "cancel", "t")
    yield create("u")
    yield as_json(call("tasks.cancel", task_id="u"), "tasks", "cancel", "u")
    yield as_json(call("tasks.delete", task_id="u"), "tasks", "delete", "u")
    fields = {
        "owner_key": "me", "requester_session_key": "q", "scope_kind": "session", "run_id": "z", "label": "l",
        "child_session_key": "c", "parent_flow_id": "f", "notify_policy": "silent", "runtime": "cron",
    }  # fmt: skip
    options = (
        "--owner", "me", "--requester", "q", "--scope", "session", "--run", "z", "--child-session", "c", "--flow", "f",
        "--label", "l", "--notify", "silent", "--runtime", "cron",
    )  # fmt: skip
    made = Action("tasks.create", {"id": "unnamed", "task": "text", **fields})
    yield as_json(made, "tasks", "create", "text", *options)


def run_commands() -> Iterator[Action]:
    """Those of the upkeep and of runs."""
    yield create("t", status="lost")
    # An error, which a filter leaves out.
    yield create("long ago", status="lost", ended_at=7)
    wanted: tuple[dict[str, Any], ...] = (
        {}, {"severity": "error"}, {"severity": "warn"}, {"code": "lost"}, {"limit": 1})  # fmt: skip
    for known in wanted:
        filters = [text for name, value in known.items() for text in (f"--{name}", str(value))]
        for fail_on in ((), ("--fail-on", "warn"), ("--fail-on", "error")):
            yield as_json(call("audit", **{"limit": 50, **known}), "tasks", "audit", *filters, *fail_on)
    yield as_json(call("maintenance", apply=False), "tasks", "maintenance")
    yield create("v")
    yield call("history.start", task_id="v", worker_id="w", run_id="run")
    yield call("history.open_session", run_id="run", session_id="s")
    yield as_json(call("history.list"), "runs", "list")
    yield as_json(call("history.list", task_id="v", worker_id="w", status="running"), "runs", "list", "--task", "v",
                "--worker", "w", "--status", "running")  # fmt: skip
    yield as_json(call("history.find", token="v"), "runs", "show", "v")  # noqa: S106 - a task
    yield as_json(call("history.find", token="nobody"), "runs", "show", "nobody")  # noqa: S106 - a task
    yield as_json(call("maintenance", apply=True), "tasks", "maintenance", "--apply")
    yield as_json(call("recover"), "recover")
    yield call("spoiled_row", table="task_history", key="run", column="started_at", value="soon")
    yield as_json(call("history.find", token="run"), "runs", "show", "run")  # noqa: S106 - a run
    # Another task has its id as a run: none of these is a call on that one.
    yield create("bad")
    yield create("other", run_id="bad", owner_key="else")
    yield call("spoiled_row", table="tasks", key="bad", column="created_at", value="soon")
    for means, *argv in (
        (call("tasks.start", task_id="bad"), "start", "bad"), (call("tasks.cancel", task_id="bad"), "cancel", " bad "),
        (call("tasks.finish", task_id="bad", status="failed"), "finish", "bad", "failed"),
        (call("tasks.set_notify_policy", task_id="bad", policy="silent"), "notify", "bad", "silent"),
        (call("tasks.delete", task_id="bad"), "delete", "bad"),
    ):  # fmt: skip
        yield as_json(means, "tasks", *argv)


def outbox_commands() -> Iterator[Action]:
    """Those of the outbox."""
    message = {"channel": "mail", "target": "me", "idempotency_key": "k", "turn_id": "t", "account_id": "a"}
    made = Action("outbox.enqueue", {**message, "dispatch_kind": "final", "payload": {"a": 1}, "message_id": "unnamed"})
    for _ in range(2):
        options = ("--key", "k", "--turn", "t", "--account", "a", "--kind", "final")
        yield as_json(made, "outbox", "enqueue", "mail", "me", '{"a": 1}', *options)
    yield enqueue("m")
    yield as_json(call("outbox.list"), "outbox", "list")
    yield as_json(
        call("outbox.list", status="queued", channel="mail"),
        "outbox",
        "list",
        "--status",
        "queued",
        "--channel",
        "mail",
    )
    yield as_json(call("outbox.get", message_id="m"), "outbox", "show", "m")
    yield as_json(call("outbox.get", message_id="nobody"), "outbox", "show", "nobody")
    yield call("outbox.ack", message_id="m")
    yield call("outbox.ack", message_id="unnamed")
    for age in ("0", "nan", "1"):
        yield as_json(call("outbox.prune", age_ms=float(age)), "outbox", "prune", "--age-ms", age)
    for name, target in (("first", "me"), ("one", "me"), ("bad", " ")):
        yield call("legacy_file", name=f"{name}.json", content={"id": name, "channel": "mail", "to": target})
        if name != "one":
            yield as_json(call("outbox.import_legacy"), "outbox", "import", "{legacy}")
    means = {"name": "outbox.import_legacy", "args": {}}
    yield Action("command", {"argv": ["outbox", "import", "{legacy}"], "means": means})
    # The only file that stays is one whose message was imported.
    yield call("legacy_file", name="bad.json", content={"id": "no longer bad", "channel": "mail", "to": "me"})
    for name in ("x", "y"):
        content = {"id": f"{name}1", "channel": "mail", "to": "me"}
        yield call("legacy_file", name="bad.json", content=content)
        changes = {"name": "bad.json", "content": {**content, "id": f"{name}2"}, "kind": "another"}
        yield as_json(call("outbox.import_legacy", changes=changes), "outbox", "import", "{legacy}")
    for wrong in ("{", "", "NaN", '{"a": 1, "a": 2}', '[{"a": {}, "b": 1, "a": {}}]'):
        means = {"name": "outbox.list", "args": {}}
        yield Action(
            "command", {"argv": ["outbox", "enqueue", "mail", "me", wrong], "means": means, "refused": "UsageError"}
        )
    yield as_json(call("outbox.recover", cutoff=None), "outbox", "recover", "--deliver-command", "true")
    # One row that can't be read is a refusal: the store can be used.
    yield enqueue("bad")
    yield call("spoiled_row", table="message_outbox", key="bad", column="queued_at", value="soon")
    yield as_json(call("outbox.get", message_id="bad"), "outbox", "show", "bad")
    # It is named whatever is listed.
    for name, value in (("channel", "other"), ("status", "delivered")):
        yield as_json(call("outbox.list", **{name: value}), "outbox", "list", f"--{name}", value)
    # More than one step of the command deletes.
    yield enqueue("many")
    yield call("outbox.ack", message_id="many")
    yield call("outbox.pruned", many=10_001)


def deliver_programs() -> Iterator[Action]:
    """What a program says by its exit code, or by not answering; and the limits of a pass."""

    def delivered(by: str, *options: str, limits: dict[str, Any] | None = None, **more: Any) -> Action:
        means = call("outbox.recover", **{"cutoff": None, **(limits or {})})
        typed = as_json(means, "outbox", "recover", "--deliver-command", by, *options)
        return Action("command", {**typed.args, "program": {}, **more})

    programs: tuple[tuple[str, dict[str, Any]], ...] = (
        ("sh -c 'exit 75'", {"says": ["75"], "permanent": False}), ("false", {"says": ["1"], "permanent": True}),
        ("sh -c 'kill -9 $$'", {"says": ["SIGKILL"], "permanent": False}),
        ("""grep -q '"idempotency_key": "key-p3"'""", {}),
        ("sh -c 'echo because >&2; exit 3'", {"says": ["3", "because"], "permanent": True}),
        ("sh -c 'printf %3000s >&2; echo because >&2; exit 3'", {"says": ["3", "because"], "permanent": True}),
        # What it wrote names a permanent error, and it says by its end that this one is not.
        ("sh -c 'echo chat not found >&2; kill -9 $$'", {"says": ["SIGKILL", "chat not found"], "permanent": False}),
        ("sh -c 'echo chat not found >&2; exit 75'", {"says": ["75", "chat not found"], "permanent": False}),
    )  # fmt: skip
    for number, (program, does) in enumerate(programs):
        yield enqueue(f"p{number}")
        yield delivered(program, program=does)
        yield call("outbox.move_to_failed", message_id=f"p{number}")
    yield enqueue("late")
    slow = "sh -c 'echo chat not found >&2; exec sleep 9'"
    yield delivered(slow, "--timeout-ms", "100", program={"says": ["100"], "permanent": False})
    yield call("outbox.move_to_failed", message_id="late")
    yield enqueue("q")
    for wrong in ("", "no-such-program-anywhere", "sh -c 'open"):
        yield delivered(wrong, refused="UsageError")
    for option, value in (("--budget-ms", "-1"), ("--max-age-ms", "0"), ("--timeout-ms", "0")):
        yield delivered("true", option, value, refused="UsageError")
    for option, name, limit in (
        ("--budget-ms", "budget_ms", 0), ("--cutoff", "cutoff", START_MS), ("--max-age-ms", "max_age_ms", 1),
    ):  # fmt: skip
        yield delivered("true", option, f"{limit}", limits={name: limit})
    yield enqueue("r")
    yield delivered("true", "--cutoff", f"{START_MS + DAY_MS}", limits={"cutoff": START_MS + DAY_MS})


SCRIPTS: Final = (task_commands, run_commands, outbox_commands, deliver_programs)
