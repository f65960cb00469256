"""Other stores (§2, store interface): whatever methods a store offers, the ledger on it answers the same."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tornpage.scenarios.targets.reference.model import upkeep
from tornpage.scenarios.targets.reference.model.disk.rows import is_readable
from tornpage.scenarios.targets.reference.model.lookups import newest_first
from tornpage.scenarios.targets.reference.model.state import Outcome, State, without_readable
from tornpage.scenarios.targets.reference.model.tasks import in_order
from tornpage.scenarios.targets.reference.model.values import Anything, Refusal
from tornpage.scenarios.targets.reference.model.world import World

# §1, a clear error: the kind of each SQLite result code, and whether a retry makes sense.
_KINDS: Final[Mapping[int, tuple[str, bool]]] = {
    3: ("StoreReadOnly", False), 5: ("StoreBusy", True), 6: ("StoreBusy", True), 7: ("StoreMemoryError", True),
    8: ("StoreReadOnly", False), 9: ("StoreError", True), 10: ("StoreIOError", False), 11: ("StoreCorrupt", False),
    13: ("StoreFull", False), 14: ("StoreUnavailable", False), 15: ("StoreBusy", True), 17: ("StoreError", True),
    19: ("StoreConstraint", False), 22: ("StoreIOError", False), 23: ("StoreReadOnly", False),
    26: ("StoreCorrupt", False),
}  # fmt: skip
_NOMEM: Final = 7
# An allocation that failed in an operation on a file.
_IOERR_NOMEM: Final = 10 + 12 * 256
_TEXTS: Final = {
    "database is locked": 5, "table is locked": 6, "readonly database": 8, "disk i/o error": 10, "malformed": 11,
    "database or disk is full": 13, "unable to open": 14, "not a database": 26,
}  # fmt: skip

# Run history and outbox, which another store doesn't keep.
_ON_SQLITE_ONLY: Final = ("history.", "outbox.", "recover")

Step = Callable[[World, State, str, Mapping[str, Any]], Outcome]


def life(
    step: Step,
    world: World,
    state: State,
    *,
    kind: str,
    calls: Iterable[Mapping[str, Any]],
    lacks: Iterable[str] = (),
    fails: Mapping[str, str] | None = None,
    raises: Mapping[str, Any] | None = None,
    nones: bool = False,
) -> Outcome:
    """§2: the finest method that a store offers, else a projected copy; §0: a failed write changed nothing.

    A store that fails after its work has done it, so the call succeeds; one that can't be asked leaves it open, and so
    does one that can't be secured. That is made up for at the next call, by each change (also where the store fails
    once more before it: ``securing``) and at the end. No runtime is asked, and no worker is known to work on a task.
    """
    del lacks, nones
    alone, now, answers = replace(world, controls={}, backs=frozenset()), State.of({}), list[Any]()
    is_secured: Any = True
    for number, call in enumerate(calls):
        if call["name"] == "spoiled_row":
            now = without_readable(now, **call["args"])
            continue
        if call["name"] == "removed_file":
            now = State.of({})
            continue
        how = (fails or {}).get(str(number))
        if how == "away":
            # It is a query: it has what memory knows, or raises.
            answers.append([Anything(), [*now.task], sorted(now.delivery), Anything()])
            continue
        now, answer, failed = _called(step, alone, now, call, how, raises)
        if failed:
            # One that is gone can't be loaded, and only what was loaded can be saved once more.
            is_secured = how in ("before", "after")
        elif is_secured is not True:
            # A call that is refused may secure it as well; the upkeep reads the store alone.
            is_open = isinstance(answer, str) or call["name"] in ("audit", "maintenance")
            is_secured = Anything() if is_open else True
        answers.append([answer, [*now.task], sorted(now.delivery), is_secured])
    tasks = newest_first(now.task.values())
    answers.append([True, *["StoreUnavailable unchanged False None None"] * 3])
    deliveries = [now.delivery.get(task["task_id"]) for task in tasks]
    modes = [] if kind == "memory" else ["600"]
    answers.append({"tasks": tasks, "deliveries": deliveries, "copies": True, "modes": modes})
    return Outcome(state, answers)


def _called(
    step: Step, world: World, now: State, call: Mapping[str, Any], fails: str | None, raises: Mapping[str, Any] | None
) -> tuple[State, Any, bool]:
    """The state after a call, its answer, and whether the store has failed in it."""
    name = call["name"]
    if name.startswith(_ON_SQLITE_ONLY):
        return now, "UsageError", False
    args = {"apply": True, **call["args"]} if name == "maintenance" else call["args"]
    try:
        outcome = step(world, now, name, args)
    except Refusal as refusal:
        return now, refusal.error, False
    if outcome.answer == "StoreError unchanged":
        return now, _error("unchanged", None), False
    if fails in (None, "securing") or outcome.state == now:
        return outcome.state, outcome.answer, False
    after = outcome.state if fails.endswith("after") else now
    if fails == "after":
        return after, outcome.answer, True
    return after, _error("unchanged" if fails == "before" else "unknown", raises), True


def _error(outcome: str, raises: Mapping[str, Any] | None) -> str:
    """The error, its outcome, whether to retry, and SQLite's own code and its name."""
    known = raises or {}
    if known.get("ours"):
        # A store may raise the ledger's own errors: they stay, and the ledger determines the outcome of the change.
        return f"StoreFull {outcome} True None None"
    code = known.get("code")
    primary = (
        code % 256
        if code is not None
        else next((n for text, n in _TEXTS.items() if text in known.get("text", "").lower()), 0)
    )
    if known.get("memory") or code == _IOERR_NOMEM:
        primary = _NOMEM
    kind, again = _KINDS.get(primary, ("StoreError", False))
    return f"{kind} {outcome} {again} {code} {'SQLITE_SO' if code is not None else None}"


# -- a snapshot that others have written -----------------------------------------------------------------------

_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "task": (
        "task_id", "runtime", "requester_session_key", "owner_key", "scope_kind", "task", "status", "delivery_status",
        "notify_policy", "created_at",
    ),
    "delivery": ("task_id",),
}  # fmt: skip
_OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    "task": (
        "task_kind", "source_id", "child_session_key", "parent_flow_id", "parent_task_id", "agent_id",
        "requester_agent_id", "run_id", "label", "started_at", "ended_at", "last_event_at", "cleanup_after", "error",
        "progress_summary", "terminal_summary", "terminal_outcome",
    ),
    "delivery": ("requester_origin", "last_notified_event_at"),
}  # fmt: skip


# §1, a clear error: EPERM and EACCES; ENOSPC and EDQUOT.
_OF_THE_SYSTEM: Final = {1: "StoreReadOnly", 13: "StoreReadOnly", 28: "StoreFull", 122: "StoreFull"}


def snapshot(world: World, state: State, *, document: Any, errno: int | None = None) -> Outcome:
    """§1: an unreadable record is reported and kept, and the others load; an invalid file is left unchanged.

    §0: a change that can't be synced may be there; nothing can be secured meanwhile. The temporary file goes.

    §2, times: always ordered, on restore and in fresh reads; §3: the audit looks for contradictions in what is written.
    """
    try:
        known = json.loads(document) if isinstance(document, str) else document
        version, tasks, deliveries = known["version"], known["tasks"], known["deliveries"]
    except (ValueError, KeyError, TypeError):
        return Outcome(state, {"error": "StoreCorrupt", "left": True})
    if not isinstance(version, int) or not isinstance(tasks, list) or not isinstance(deliveries, list):
        return Outcome(state, {"error": "StoreCorrupt", "left": True})
    if version > 1:
        return Outcome(state, {"error": "StoreSchemaNewer", "left": True})
    if errno is not None:
        said = f"{_OF_THE_SYSTEM.get(errno, 'StoreIOError')} unknown" if errno else "KeyboardInterrupt"
        return Outcome(state, [said, ["written.json"], True if errno else Anything()])
    good, bad = _parted("task", "tasks", tasks)
    told, wrong = _parted("delivery", "task_delivery_state", deliveries)
    mine = sorted({name for name in told if name in good})
    # The delivery state of an unreadable task is kept with it.
    theirs = [name for name in told if ["tasks", name] in bad]
    written = {
        one["task_id"]: {**dict.fromkeys(_OPTIONAL["task"]), **one}
        for one in tasks
        if isinstance(one, Mapping) and one.get("task_id") in good
    }
    rows = {name: in_order(row) for name, row in written.items()}
    alone = replace(world, controls={}, backs=frozenset(), as_written=written)
    audited = upkeep.audit(alone, State.of({f"task/{name}": row for name, row in rows.items()})).answer
    return Outcome(state, {
        "tasks": sorted(good), "deliveries": mine, "quarantined": [*bad, *wrong], "fresh": [True, True],
        "times": {name: [row[one] for one in _TIMES] for name, row in rows.items()},
        # §3, lost: the runtime's own hook is asked.
        "asked": {name: [row[one] for one in _TIMES] for name, row in rows.items() if upkeep.may_be_lost(world, row)},
        "contradictions": audited["summary"]["by_code"]["inconsistent_timestamps"],
        "unaudited": bad + wrong,
        "kept": [len(good) + len(bad) + 2, len(mine) + len(wrong) + len(theirs)],
        # §2: write to a temporary file, fsync, rename, fsync the directory; for each of two tasks.
        "durable": [True, True],
    })  # fmt: skip


_TIMES: Final = ("created_at", "started_at", "ended_at", "last_event_at")


def _parted(kind: str, table: str, records: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """The names of the readable ones, and the table and name of the others.

    Not in the specification: of several with one id none is readable, since nothing tells which of them holds.
    """
    good, bad = [], []
    ids = [one.get("task_id") for one in records if isinstance(one, Mapping)]
    for one in records:
        names = set(one) if isinstance(one, Mapping) else set()
        needed, all_of_them = set(_NEEDED[kind]), {*_NEEDED[kind], *_OPTIONAL[kind]}
        is_alone = isinstance(one, Mapping) and ids.count(one.get("task_id")) == 1
        is_whole = is_alone and needed <= names <= all_of_them and all(one[name] is not None for name in needed)
        if is_whole and is_readable(kind, {**dict.fromkeys(_OPTIONAL[kind]), **_as_text(one)}):
            good.append(one["task_id"])
        else:
            bad.append([table, str(one.get("task_id", "?")) if isinstance(one, Mapping) else "?"])
    return good, bad


def _as_text(record: Mapping[str, Any]) -> dict[str, Any]:
    """As a row has it: JSON is a text there, and its keys have no white space around them."""
    origin = record.get("requester_origin")
    keys = {name: record[name].strip() for name in ("owner_key", "run_id") if isinstance(record.get(name), str)}
    return {**record, **keys, **({} if origin is None else {"requester_origin": json.dumps(origin)})}
