"""The calls of the reference ledger that a machine may draw: each public action, in every relevant variant.

Some draws have to be refused: missing ids, duplicate ids, an end after the end. An action is drawn by its name first,
so that each is about equally frequent, and then with ids of the given state.

A machine is a set of such names: the parts of the ledger, each with what it needs of the others, and the whole ledger
with a second worker, which makes its calls in another process (``elsewhere``).

Not covered: `observe` and `revise`, which take functions, and the times that a caller may give.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Final

from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from tornpage.scenarios.model.target import Action, Machine, View
from tornpage.scenarios.targets.reference.workload import ARRIVES, FAILS, FAILS_FOR_GOOD, message_args, task_args

_HOUR_MS: Final = 3_600_000
_WEEK_MS: Final = 7 * 24 * _HOUR_MS
_NOBODY: Final = "nobody"
# Enough for every kind of conflict, and few enough that they occur.
_MOST_ROWS: Final = 5
_RUN_IDS: Final = ("run-1", "run-2")
_WORKERS: Final = ("sender", "sender-2")

Drawing = SearchStrategy[Action]


class Known:
    """The ids of a state, by kind, with one missing and one new id of each kind."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._ids: dict[str, list[str]] = {}

    def there(self, kind: str) -> list[str]:
        """The ids of one kind, in order."""
        if kind not in self._ids:
            self._ids[kind] = sorted(key.partition("/")[2] for key in self.view if key.startswith(kind + "/"))
        return self._ids[kind]

    def any(self, kind: str) -> SearchStrategy[str]:
        """One of them, or a missing one."""
        return strategies.sampled_from([*self.there(kind) * _WEIGHT, _NOBODY])

    def new(self, kind: str, letter: str) -> SearchStrategy[str]:
        """A new id, sometimes a duplicate; no new one if there are many."""
        there = self.there(kind)
        taken = there[: len(there) // 2 or 1]
        if len(there) >= _MOST_ROWS:
            return strategies.sampled_from(there)
        # An id is never used twice, and the history keeps removed tasks.
        used = {*there, *(row["task_id"] for key, row in self.view.items() if key.startswith("run/"))}
        unused = next(name for number in count() if (name := f"{letter}{number}") not in used)
        return strategies.sampled_from([unused, unused, unused, *taken])


def _chosen(*variants: Mapping[str, Any]) -> SearchStrategy[Mapping[str, Any]]:
    return strategies.sampled_from(variants)


def _on(name: str, key: str, kind: str, *variants: Mapping[str, Any]) -> Callable[[Known], Drawing]:
    """A call on one row, in one of its variants."""
    chosen = _chosen(*(variants or ({},)))
    return lambda known: strategies.builds(lambda one, more: Action(name, {key: one, **more}), known.any(kind), chosen)


def _plain(name: str, *variants: Mapping[str, Any]) -> Callable[[Known], Drawing]:
    """A call on nothing in particular, in one of its variants."""
    drawn = _chosen(*(variants or ({},))).map(lambda args: Action(name, dict(args)))
    return lambda _: drawn


def _on_run(name: str, *variants: Mapping[str, Any]) -> Callable[[Known], Drawing]:
    """A call on the tasks of a run, whether or not the history has it."""
    chosen = _chosen(*(variants or ({},)))

    def drawing(known: Known) -> Drawing:
        runs = strategies.sampled_from([*_RUN_IDS, *known.there("run"), _NOBODY])
        return strategies.builds(lambda run, more: Action(name, {"run_id": run, **more}), runs, chosen)

    return drawing


# For a new task: mostly no option, else one of them.
_OF_A_TASK: Final[tuple[dict[str, Any], ...]] = (
    {}, {}, {}, {}, {}, {}, {"requester_origin": {"channel": "mail"}}, {"label": "again"}, {"status": "running"},
    {"status": "succeeded"}, {"status": "lost", "error": "gone"}, {"owner_key": " other "}, {"scope_kind": "system"},
    {"child_session_key": "child"}, {"notify_policy": "silent"}, {"started_at": 5}, {"parent_flow_id": "flow"},
    {"status": "done"}, {"last_event_at": 2**50},
)  # fmt: skip


def _new_task(known: Known) -> Drawing:
    return strategies.builds(
        lambda name, runtime, run, more: Action("tasks.create", task_args(name, **{"runtime": runtime, **run, **more})),
        known.new("task", "t"),
        strategies.sampled_from(["cli", "acp", "subagent", "cron"]),
        _chosen({}, *({"run_id": run} for run in _RUN_IDS)),
        _chosen(*_OF_A_TASK),
    )


def _new_run(known: Known) -> Drawing:
    def build(task: str, run: str, named: bool) -> Action:
        args = {"task_id": task, "worker_id": f"w-{run}"}
        return Action("history.start", args | ({"run_id": run} if named else {}))

    # Without a name a run takes its task's.
    named = strategies.sampled_from([True, True, True, False])
    return strategies.builds(build, known.any("task"), known.new("run", "r"), named)


def _new_session(known: Known) -> Drawing:
    return strategies.builds(
        lambda run, session: Action("history.open_session", {"run_id": run, "session_id": session}),
        known.any("run"),
        known.new("session", "s"),
    )


def _new_message(known: Known) -> Drawing:
    def build(name: str, payload: dict[str, Any], key: str | None) -> Action:
        args = message_args(name, payload)
        return Action("outbox.enqueue", args | ({"idempotency_key": key} if key else {}))

    # A known key returns the message that has it.
    keys = strategies.sampled_from([None, None, None, *(f"key-{one}" for one in known.there("message")[:1])])
    return strategies.builds(
        build, known.new("message", "m"), strategies.sampled_from([ARRIVES, FAILS, FAILS_FOR_GOOD]), keys
    )


def _a_pass(known: Known) -> Drawing:
    times = {row["queued_at"] + 1 for key, row in known.view.items() if key.startswith("message/")}
    cutoffs = [None, None, *sorted(times)]
    return strategies.sampled_from(cutoffs).map(lambda cutoff: Action("outbox.recover", {"cutoff": cutoff}))


def _old_file(known: Known) -> Drawing:
    def build(name: str, to: str) -> Action:
        content = {"id": name, "channel": "mail", "to": to}
        return Action("legacy_file", {"name": f"{name}.json", "content": content})

    names = [*(f"old{number}" for number in range(3)), *known.there("message")[:1]]
    return strategies.builds(build, strategies.sampled_from(names), strategies.sampled_from(["you", "me"]))


# Another program replaces a file while the files are imported.
_REPLACED: Final = tuple(
    {"name": f"{name}.json", "content": {"id": "replaced", "channel": "mail", "to": "you"}, "kind": kind}
    for name, kind in (("old0", "another"), ("old1", "later"))
)

_BROKE: Final = {"error": "it broke"}

TASKS: Final[Mapping[str, Callable[[Known], Drawing]]] = {
    "tasks.create": _new_task,
    "tasks.delete": _on("tasks.delete", "task_id", "task"),
    "tasks.start": _on("tasks.start", "task_id", "task"),
    "tasks.progress": _on("tasks.progress", "task_id", "task", {"text": "half way"}, {"text": "nearly there"}),
    "tasks.finish": _on(
        "tasks.finish", "task_id", "task",
        {"status": "succeeded"}, {"status": "failed", **_BROKE}, {"status": "timed_out"}, {"status": "lost"},
        {"status": "succeeded", "run_id": "run-1", "terminal_summary": "done"}, {"status": "queued"},
    ),
    "tasks.cancel": _on("tasks.cancel", "task_id", "task"),
    "tasks.set_notify_policy": _on(
        "tasks.set_notify_policy", "task_id", "task", {"policy": "silent"}, {"policy": "state_changes"}
    ),
    "tasks.set_delivery_status": _on(
        "tasks.set_delivery_status", "task_id", "task", {"status": "delivered"}, {"status": "failed"}
    ),
    "tasks.set_delivery_state": _on(
        "tasks.set_delivery_state", "task_id", "task",
        {"last_notified_event_at": 7}, {"requester_origin": {"channel": "chat"}},
    ),
    "tasks.mark_running_by_run": _on_run("tasks.mark_running_by_run", {}, {"session_key": "main"}),
    "tasks.progress_by_run": _on_run("tasks.progress_by_run", {"text": "half way"}),
    "tasks.finalize_by_run": _on_run(
        "tasks.finalize_by_run", {"status": "succeeded"}, {"status": "failed", **_BROKE}, {"status": "cancelled"}
    ),
    "maintenance": _plain("maintenance", {}, {"later_ms": _HOUR_MS}, {"later_ms": 2 * _WEEK_MS}, {"apply": False}),
    "audit": _plain(
        "audit", {}, {"severity": "warn", "later_ms": _HOUR_MS}, {"limit": 1, "later_ms": _HOUR_MS},
        {"severity": "all"}, {"code": "lost", "booting": True, "later_ms": _HOUR_MS},
    ),
    "tasks.find": _on("tasks.find", "token", "task"),
    "tasks.list": _plain("tasks.list", {}, {"status": "running"}, {"runtime": "acp"}),
}  # fmt: skip

HISTORY: Final[Mapping[str, Callable[[Known], Drawing]]] = {
    "history.start": _new_run,
    "history.finish": _on(
        "history.finish", "run_id", "run",
        {"status": "success"}, {"status": "success", "cost_usd": 0.123_4, "artifacts": ["x"]}, {"status": "failure"},
        {"status": "cancelled"}, {"status": "interrupted", "reason": "told so"}, {"status": "aborted_no_skill"},
    ),
    "history.open_session": _new_session,
    "history.invalidate_session": _on(
        "history.invalidate_session", "session_id", "session", {"reason": "it is over"}
    ),
    "recover": _plain("recover"),
}  # fmt: skip

OUTBOX: Final[Mapping[str, Callable[[Known], Drawing]]] = {
    "outbox.enqueue": _new_message,
    "outbox.claim": _on("outbox.claim", "message_id", "message", *({"worker_id": one} for one in _WORKERS)),
    "outbox.release": _on("outbox.release", "message_id", "message", *({"worker_id": one} for one in _WORKERS)),
    "outbox.ack": _on("outbox.ack", "message_id", "message"),
    "outbox.fail": _on(
        "outbox.fail", "message_id", "message",
        {"error": "connection reset"}, {"error": "connection reset", "worker_id": _WORKERS[0]},
        {"error": "chat not found"}, {"error": "no reason", "permanent": True},
    ),
    "outbox.move_to_failed": _on(
        "outbox.move_to_failed", "message_id", "message", {}, {"reason": "nobody reads it", "worker_id": _WORKERS[0]}
    ),
    "outbox.recover": _a_pass,
    "outbox.prune": _plain(
        "outbox.prune", {"age_ms": 1}, {"age_ms": 120_000}, {"age_ms": 1, "limit": 1}, {"age_ms": 0}
    ),
    "legacy_file": _old_file,
    "outbox.import_legacy": _plain("outbox.import_legacy", {}, {}, *({"changes": one} for one in _REPLACED)),
}  # fmt: skip

_ALL: Final = {**TASKS, **HISTORY, **OUTBOX}
# Calls that can't be part of a larger call are tried there, too: the ledger has to refuse them.
_IN_BATCHES: Final = tuple(name for name in _ALL if name not in {"recover", "maintenance", "legacy_file", "audit"})
# Placing a file is not a call of the ledger.
_ELSEWHERE: Final = tuple(name for name in _ALL if name != "legacy_file")
_MOST_IN_A_BATCH: Final = 3


# The object of a call; if there is none, the call has to be refused.
_IS_ON: Final = {
    **dict.fromkeys((name for name in _ALL if name.startswith("tasks.")), "task"),
    **dict.fromkeys((name for name in _ALL if name.startswith("outbox.")), "message"),
    "history.start": "task", "history.finish": "run", "history.open_session": "run",
    "history.invalidate_session": "session",
}  # fmt: skip
# What makes one.
_MADE_BY: Final = {
    "task": "tasks.create", "message": "outbox.enqueue", "run": "history.start", "session": "history.open_session",
}  # fmt: skip
# These are drawn more often while there are few; a session is one of several things that a run can get.
_CREATES: Final = {call: kind for kind, call in _MADE_BY.items() if kind != "session"}
_FEW: Final = 2
_WEIGHT: Final = 4


def _one_of(names: Sequence[str], known: Known) -> Drawing:
    """A call by its name: mostly one that is possible now, and a new row rather than none at all."""
    weighted = [name for name in names for _ in range(_weight_of(name, known))]
    return strategies.sampled_from(weighted).flatmap(lambda name: _drawing(name, known))


def _weight_of(name: str, known: Known) -> int:
    if name in _CREATES and len(known.there(_CREATES[name])) < _FEW:
        is_possible = name != "history.start" or known.there("task")
        return 3 * _WEIGHT if is_possible else 1
    kind = _IS_ON.get(name)
    return _WEIGHT if kind is None or known.there(kind) else 1


def _drawing(name: str, known: Known) -> Drawing:
    if name == "batch":
        return _batch(known)
    if name == "elsewhere":
        return _elsewhere(known)
    return _ALL[name](known)


def _towards(name: str, known: Known) -> Drawing:
    """A call by its name or, where there is nothing that it could be on, the call that makes one."""
    kind = _IS_ON.get(name)
    maker = name if kind is None or known.there(kind) else _MADE_BY[kind]
    return _drawing(name, known) if maker == name else _towards(maker, known)


def _as_data(action: Action) -> dict[str, Any]:
    return {"name": action.name, "args": action.args}


def _batch(known: Known) -> Drawing:
    calls = strategies.lists(_one_of(_IN_BATCHES, known), min_size=1, max_size=_MOST_IN_A_BATCH)
    return calls.map(lambda drawn: Action("batch", {"calls": [_as_data(one) for one in drawn]}))


def _elsewhere(known: Known) -> Drawing:
    """A call of the other worker, in its own process."""
    inner = _one_of((*_ELSEWHERE, "batch"), known)
    return inner.map(lambda action: Action("elsewhere", {"call": _as_data(action)}))


def _machine(names: Iterable[str]) -> Machine:
    chosen = tuple(names)
    return Machine(
        lambda view: _one_of(chosen, Known(view)), frozenset(chosen), lambda view, name: _towards(name, Known(view))
    )


_ENDS: Final = ("tasks.create", "tasks.delete", "tasks.finish", "tasks.start")
# A batch, and a call from elsewhere, stand for many calls each: they are drawn more often.
_WHOLE: Final = (*_ALL, *["batch"] * 4, *["elsewhere"] * 8)

MACHINES: Final[Mapping[str, Machine]] = {
    "tasks": _machine(TASKS),
    "history": _machine((*HISTORY, *_ENDS, "tasks.finalize_by_run", "maintenance")),
    "outbox": _machine(OUTBOX),
    "ledger": _machine(_WHOLE),
}


def draw(view: View) -> Drawing:
    """Any call of the whole ledger by one worker."""
    return _one_of((*_ALL, "batch"), Known(view))


def draw_tasks(view: View) -> Drawing:
    """Any call that changes tasks and nothing else."""
    return _one_of(tuple(name for name in TASKS if name.startswith("tasks.")), Known(view))
