"""Random calls over the whole space of arguments: each argument of each call, mostly valid, sometimes odd.

`strategies` draws the variants that matter under faults; here every argument has its turn, with values that must be
refused, texts that must be trimmed, and times around every limit. Drawn by `random` and not by Hypothesis, which is
many times slower; so nothing is shrunk, and a failing step is reported with those before it.

Not covered: commands, hooks and real workers, which scripts cover.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

from tornpage.scenarios.model.target import Action, View
from tornpage.scenarios.targets.reference import model

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS
_YEAR_9999_MS: Final = 253_370_764_800_000
_MOST_IN_A_BATCH: Final = 4

# Values that no argument allows, and that some allow: each is refused, trimmed or accepted.
_ODD: Final[tuple[Any, ...]] = (
    None, "", " \t", " x ", "nobody", 0, 1, -1, 5, 1.5, True, False, 2**63, 2**63 - 1, float("nan"), float("inf"), [],
    {}, "\ud800", "ünïcödé 🦊", "x" * 300, "a\nb", "queued", "main", "child",
)  # fmt: skip
_LATER_MS: Final = (
    -_DAY_MS, -1, 1, 1_000, 5_000, _MINUTE_MS, 5 * _MINUTE_MS, 10 * _MINUTE_MS, 30 * _MINUTE_MS, _DAY_MS, 8 * _DAY_MS,
)  # fmt: skip
_STATUSES: Final = ("queued", "running", "succeeded", "failed", "timed_out", "cancelled", "lost")
_RUNTIMES: Final = ("subagent", "acp", "cli", "cron")
_SESSIONS: Final = ("main", "child", " main ", "other", "main", "child")
_JSON: Final = ({"channel": "mail"}, [1, "x", None], "text", 0, {"ä": {"b": [True]}}, None)
_PAYLOADS: Final = (
    {"text": "hello"}, {"error": "connection reset"}, {"error": "chat not found"}, {"raises": "reset"},
    {"error": "x", "permanent": True}, {"elsewhere": True}, "text", None,
)  # fmt: skip
_ERRORS: Final = ("connection reset", "Chat not found", "it broke", " ", "forbidden: bot was kicked out")
_TASKS, _RUNS, _AGENTS, _MESSAGES, _WORKERS = (
    tuple(f"{letter}{number}" for number in range(4)) for letter in ("t", "r", "s", "m", "w")
)

_TRUTHS: Final = (True, False)

Draw = Callable[[Random], Any]


def _of(*values: Any) -> Draw:
    return lambda chance: chance.choice(values)


def _time(chance: Random) -> Any:
    now = 1_700_000_000_000
    return chance.choice((now, now - 5, now + _DAY_MS, 5, 0, -7, _YEAR_9999_MS, _YEAR_9999_MS + 1, None))


def _task(chance: Random) -> str:
    # A run or a session may be called as a task.
    return chance.choice((*_TASKS, *_TASKS, *_TASKS, *_RUNS[:1], " t0 "))


# The values of each argument by its name, whatever the call.
_POOLS: Final[Mapping[str, Draw]] = {
    "task_id": _task,
    "id": _of(*_TASKS),
    "runtime": _of(*_RUNTIMES),
    "task": _of("work", "work", " other ", "ünïcödé"),
    "requester_session_key": _of(*_SESSIONS),
    "owner_key": _of(*_SESSIONS, None),
    "scope_kind": _of("session", "system", None),
    "status": _of(*_STATUSES),
    "delivery_status": _of("pending", "delivered", "session_queued", "failed", "parent_missing", "not_applicable"),
    "notify_policy": _of("done_only", "state_changes", "silent", None),
    "policy": _of("done_only", "state_changes", "silent"),
    "run_id": _of(*_RUNS, " r0 ", "t0"),
    "label": _of("l", " l ", "other", "observer raises"),
    "child_session_key": _of("child", " child", "other"),
    "parent_flow_id": _of("flow", " flow "),
    "requester_origin": _of(*_JSON),
    "terminal_outcome": _of("succeeded", "blocked", None),
    "error": _of(*_ERRORS),
    "reason": _of(*_ERRORS),
    "text": _of("half way", " half   way ", "done"),
    "worker_id": _of(*_WORKERS, "pass-1"),
    "session_key": _of(*_SESSIONS, None),
    "session_id": _of(*_AGENTS),
    "token": _of(*_TASKS, *_RUNS, "main", "child"),
    "message_id": _of(*_MESSAGES, *_MESSAGES, " m0 "),
    "channel": _of("mail", " mail ", "chat"),
    "target": _of("you", " me "),
    "payload": _of(*_PAYLOADS),
    "idempotency_key": _of("k0", "k1", " k0 ", None, None),
    "permanent": _of(*_TRUTHS, None),
    "age_ms": _of(1, 1.5, _MINUTE_MS, _DAY_MS, 0),
    "limit": _of(1, 2, 50, None),
    "cutoff": _of(None, None, 1_700_000_000_000, 0),
    "budget_ms": _of(0, 1, _MINUTE_MS),
    "max_age_ms": _of(1, 30 * _MINUTE_MS, 100 * _DAY_MS),
    "cost_usd": _of(0, 0.5, 3, 0.004_999, 12_345.678_9),
    "artifacts": _of(*_JSON),
    "severity": _of("warn", "error", None),
    "code": _of("lost", "stale_queued", "stale_running", "delivery_failed", "missing_cleanup", None),
    "apply": _of(*_TRUTHS),
    "booting": _of(*_TRUTHS),
    "issue_number": _of(0, 7),
    "changes": lambda chance: {**_old_file(chance).args, "kind": chance.choice(("another", "later"))},
    **dict.fromkeys(("tokens_in", "tokens_out", "turns"), _of(0, 1, 2**40)),
    **dict.fromkeys(("started_at", "ended_at", "last_event_at", "finished_at", "last_notified_event_at"), _time),
}
_TEXT: Final = _of("x", " x  y ", " ", "z")

_END: Final = ("ended_at", "error", "terminal_summary", "terminal_outcome")
# The arguments of each call: required ones and optional ones.
_ARGUMENTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "tasks.create": ("id runtime task requester_session_key", (
        "owner_key", "scope_kind", "status", "delivery_status", "notify_policy", "run_id", "label", "run_id",
        "child_session_key", "parent_flow_id", "requester_origin", "started_at", "last_event_at", "progress_summary",
        "task_kind", "source_id", "parent_task_id", "agent_id", "requester_agent_id", *_END,
    )),
    "tasks.start": ("task_id", ("started_at",)),
    "tasks.progress": ("task_id text", ()),
    "tasks.finish": ("task_id status", ("run_id", *_END)),
    "tasks.cancel": ("task_id", ()),
    "tasks.delete": ("task_id", ()),
    "tasks.set_notify_policy": ("task_id policy", ()),
    "tasks.set_delivery_status": ("task_id delivery_status", ()),
    "tasks.set_delivery_state": ("task_id", ("requester_origin", "last_notified_event_at")),
    "tasks.mark_running_by_run": ("run_id", ("session_key", "started_at")),
    "tasks.progress_by_run": ("run_id text", ("session_key",)),
    "tasks.finalize_by_run": ("run_id status", ("session_key", *_END)),
    "tasks.get": ("task_id", ()), "tasks.get_delivery": ("task_id", ()), "tasks.find": ("token", ()),
    "tasks.list": ("", ("runtime", "status")),
    "tasks.list_for_owner": ("owner_key", ()), "tasks.list_fresh_for_owner": ("owner_key", ()),
    "tasks.list_for_session": ("session_key", ()), "tasks.list_by_run": ("run_id", ()),
    "tasks.list_by_parent_flow": ("parent_flow_id", ()),
    "history.start": ("task_id worker_id", (
        "run_id", "started_at", "repo", "issue_number", "user", "agent", "agent_type", "model", "provider",
    )),
    "history.finish": ("run_id result", (
        "finished_at", "cost_usd", "tokens_in", "tokens_out", "turns", "artifacts", "reason",
    )),
    "history.open_session": ("run_id", ("session_id", "session_id")),
    "history.invalidate_session": ("session_id reason", ()),
    "history.find": ("token", ()), "history.get": ("run_id", ()), "history.running_workers": ("", ()),
    "history.list": ("", ("task_id", "worker_id")), "history.list_sessions": ("", ("run_id",)),
    "recover": ("", ()),
    "maintenance": ("", ("apply",)),
    "audit": ("", ("severity", "code", "limit", "booting")),
    "outbox.enqueue": ("message_id channel target payload", (
        "idempotency_key", "idempotency_key", "turn_id", "account_id", "dispatch_kind",
    )),
    "outbox.claim": ("message_id worker_id", ()), "outbox.release": ("message_id worker_id", ()),
    "outbox.ack": ("message_id", ()),
    "outbox.fail": ("message_id error", ("permanent", "worker_id")),
    "outbox.move_to_failed": ("message_id", ("reason", "worker_id")),
    "outbox.recover": ("cutoff", ("budget_ms", "max_age_ms")),
    "outbox.prune": ("age_ms", ("limit",)),
    "outbox.get": ("message_id", ()), "outbox.list": ("", ("channel",)),
    "outbox.import_legacy": ("", ("changes",)),
}  # fmt: skip
# An argument that another call has under the same name, with other values.
_RENAMED: Final = {"delivery_status": ("tasks.set_delivery_status", "status"), "result": ("history.finish", "status")}
_RESULTS: Final = _of("success", "failure", "cancelled", "interrupted", "aborted_no_skill", "running")

NAMES: Final = tuple(_ARGUMENTS)
"""Every call that is drawn."""

_ONCE_IN_FIFTEEN: Final = 1 / 15
# Made as often as they are listed here; a read changes nothing, so each is rare.
_WEIGHTED: Final = tuple(
    name
    for name in _ARGUMENTS
    for _ in range(8 if name in ("tasks.create", "history.start", "outbox.enqueue") else 1 if "list" in name else 3)
)
_NOT_IN_BATCHES: Final = frozenset({"recover", "audit"})
_MOVING: Final = frozenset({"tasks.create", "tasks.start", "tasks.progress", "tasks.finish", "history.start"})


def one_call(chance: Random, view: View) -> Action:
    """A call, by this worker or another, alone or with others in a batch; `view` is the state before it."""
    which = chance.random()
    if which < 0.06:
        calls = [_plain(chance, timed=False) for _ in range(chance.randint(0, _MOST_IN_A_BATCH))]
        return Action("batch", {"calls": [_as_data(one) for one in calls if one.name not in _NOT_IN_BATCHES]})
    if which < 0.14:
        call = _plain(chance)
        return Action("elsewhere", {"call": _as_data(Action(call.name, _without(call.args, "tick_ms")))})
    if which < 0.2:
        return _circumstance(chance, view)
    return _plain(chance)


def _without(args: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arguments but for this one."""
    return {key: value for key, value in args.items() if key != name}


def _as_data(action: Action) -> dict[str, Any]:
    return {"name": action.name, "args": action.args}


def each_argument(name: str, values: Sequence[Any]) -> Iterator[Action]:
    """A call with each of these values for each of its arguments in turn; what it needs beside that is valid."""
    needed, optional = _ARGUMENTS[name]
    for one in dict.fromkeys((*needed.split(), *optional)):
        args = {_key(name, each): _valid(each, Random(0)) for each in (*needed.split(), one)}  # noqa: S311 - any will do
        key = _key(name, one)
        if _may_be_odd(key):
            yield from (Action(name, {**args, key: value}) for value in values)


def _key(name: str, argument: str) -> str:
    """What a call calls this argument."""
    call, renamed = _RENAMED.get(argument, ("", argument))
    return renamed if call == name else argument


def _valid(argument: str, chance: Random) -> Any:
    return _RESULTS(chance) if argument == "result" else _POOLS.get(argument, _TEXT)(chance)


def _may_be_odd(key: str) -> bool:
    # Any value has a truth value, and the next id is not an argument.
    return key not in ("id", "apply", "booting", "changes")


def _plain(chance: Random, *, timed: bool = True) -> Action:
    name = chance.choice(_WEIGHTED)
    needed, optional = _ARGUMENTS[name]
    # Mostly few of the optional ones: all of them at once hide the effect of one alone.
    more = chance.sample(optional, min(len(optional), int(chance.expovariate(0.8))))
    args: dict[str, Any] = {}
    for one in (*needed.split(), *more):
        key = _key(name, one)
        args[key] = _valid(one, chance)
        if _may_be_odd(key) and chance.random() < _ONCE_IN_FIFTEEN:
            args[key] = chance.choice(_ODD)
    if timed and chance.random() < 1 / 5:
        args["later_ms"] = chance.choice(_LATER_MS) + chance.choice((-1, 0, 1))
    if timed and name in _MOVING and chance.random() < 1 / 30:
        args["tick_ms"] = chance.choice((1, -1, _MINUTE_MS))
    return Action(name, args)


def _circumstance(chance: Random, view: View) -> Action:
    """A change by others to a row or a file, or a hook that acts."""
    tasks = [key.partition("/")[2] for key in view if key.startswith("task/")] or ["t0"]
    messages = [key.partition("/")[2] for key in view if key.startswith("message/")] or ["m0"]
    which = chance.randrange(8)
    if which == 0:
        return Action("older_row", {"task_id": chance.choice(tasks)})
    if which == 1:
        return Action("damaged_payload", {"message_id": chance.choice(messages)})
    if which == 2 and not any(key.startswith("unreadable/tasks") for key in view):
        column, value = chance.choice((("status", "paused"), ("created_at", "soon"), ("runtime", "shell")))
        spoiled = {"table": "tasks", "key": chance.choice(tasks), "column": column, "value": value}
        return Action("spoiled_row", spoiled)
    if which in (3, 4):
        meanwhile = chance.choice((None, _plain(chance, timed=False)))
        data = None if meanwhile is None or meanwhile.name not in model.ACTIONS else _as_data(meanwhile)
        says = chance.choice(("agrees", "nothing", "refuses", "raises"))
        acp = [name for name in tasks if view.get(f"task/{name}", {}).get("runtime") == "acp"]
        if acp:
            return Action("cancel_while", {"task_id": chance.choice(acp), "says": says, "meanwhile": data})
    return _old_file(chance)


def _old_file(chance: Random) -> Action:
    name = chance.choice(("f0", "f1"))
    content: dict[str, Any] = {"id": chance.choice((*_MESSAGES, "old", " old ")), "channel": "mail", "to": "you"}
    for key, values in (
        ("retryCount", (0, 1, 4, 5, 1_000_000, 1_000_001, 3.0, -1, "2", 1e300)),
        ("lastAttemptAt", (5, 1_700_000_000_000, "x", None)),
        ("enqueuedAt", (5, 1_700_000_000_000, 1.5)),
        ("lastError", ("e", " ", 5)),
        ("idempotencyKey", ("k0", " k1", 5)),
        ("turnId", (" t ", 5)),
        ("to", (" ", "me", 5)),
        ("more", ([1], {"ä": None})),
    ):
        if chance.random() < 1 / 4:
            content[key] = chance.choice(values)
    others: tuple[Any, ...] = ([], "text", {}, None)
    document = content if chance.random() < 0.9 else chance.choice(others)
    return Action("legacy_file", {"name": f"{name}.json", "content": document})
