"""One call of the ledger, by its name: its outcome."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tornpage.scenarios.targets.reference.model import (
    lookups,
    observers,
    old_queue,
    outbox,
    runs,
    tasks,
    upkeep,
    workers,
)
from tornpage.scenarios.targets.reference.model.disk import opening, stores
from tornpage.scenarios.targets.reference.model.state import Outcome, State, joined
from tornpage.scenarios.targets.reference.model.values import Refusal
from tornpage.scenarios.targets.reference.model.world import World

Rule = Callable[..., Outcome]
Calls = Sequence[Mapping[str, Any]]


def _look(question: Callable[..., Any]) -> Rule:
    """A question as a call that changes nothing."""

    def asked(world: World, state: State, **args: Any) -> Outcome:
        return Outcome(state, question(world, state, **args))

    asked.__doc__ = question.__doc__
    return asked


def _stores_life(world: World, state: State, **args: Any) -> Outcome:
    """§2, store interface: whatever methods a store offers, the ledger on it answers the same."""
    return stores.life(step, world, state, **args)


def _nested(world: World, state: State, *, calls: Calls, inner: Calls, after: Calls) -> Outcome:
    """§1, batch: on failure none happened, even if a caller swallows the failure of a part that has written."""
    made = _made(world, state, calls)
    begun = made[-1].state if made else state
    part: list[Outcome] = []
    try:
        _made(world, begun, inner, part)
    except Refusal as refusal:
        # A row that can't be read is an error of the store: caught or not, it ends the batch.
        if refusal.error == "Unreadable" or (part and part[-1].state != begun):
            return Outcome(state, "StoreError unchanged")
    made += part
    made += _made(world, made[-1].state if made else state, after)
    return joined(made, state, [one.answer for one in made])


def _made(world: World, state: State, calls: Calls, made: list[Outcome] | None = None) -> list[Outcome]:
    """The outcomes of calls, one after the other; `made` has those before a refusal, too."""
    made = [] if made is None else made
    for call in calls:
        inner = dict(call["args"])
        if call["name"] in _ALONE:
            raise Refusal("UsageError")
        world = named(world, call["name"], inner)
        made.append(step(world, made[-1].state if made else state, call["name"], inner))
    return made


_NAMES: Final = {"history": runs, "outbox": outbox, "tasks": tasks}
_CHANGES: Final = {
    "tasks": (
        "create", "start", "progress", "finish", "set_notify_policy", "set_delivery_status", "set_delivery_state",
        "delete", "cancel", "mark_running_by_run", "progress_by_run", "finalize_by_run",
    ),
    "history": ("start", "finish", "open_session", "invalidate_session"),
    "outbox": (
        "enqueue", "claim", "release", "ack", "fail", "move_to_failed", "prune", "recover",
    ),
}  # fmt: skip
_LOOKS: Final = {
    "tasks": (
        "get", "get_delivery", "list", "list_for_owner", "list_by_run", "list_by_parent_flow", "list_for_session",
        "find",
    ),
    "history": ("get", "list", "read", "find", "running_workers", "get_session", "list_sessions"),
    "outbox": ("get", "list", "read"),
}  # fmt: skip

ACTIONS: Final[Mapping[str, Rule]] = {
    **{f"{part}.{name}": getattr(_NAMES[part], name) for part, names in _CHANGES.items() for name in names},
    **{f"{part}.{name}": _look(getattr(lookups, f"{part}_{name}")) for part, names in _LOOKS.items() for name in names},
    "tasks.list_fresh_for_owner": _look(lookups.tasks_list_for_owner),
    "tasks.restore": _look(lookups.tasks_restore),
    "close": _look(lookups.close),
    "tasks.quarantined": _look(lookups.tasks_quarantined),
    "outbox.import_legacy": old_queue.import_legacy,
    "outbox.quarantined": _look(lookups.outbox_quarantined),
    "recover": runs.recover,
    "audit": upkeep.audit,
    "maintenance": upkeep.maintenance,
    "workers.life": workers.life,
    "workers.work": workers.work,
    "observers.life": observers.life,
    "observers.follow": observers.follow,
    "stores.life": _stores_life,
    "open.once": opening.opening,
    "open.too_old": opening.too_old,
    "open.typed": opening.typed,
    "open.unwritten": opening.unwritten,
    "outbox.pruned": opening.pruned,
    **dict.fromkeys(
        (
            "driver.pairs",
            "driver.interrupts",
            "driver.imports",
            "driver.openers",
            "driver.broken",
            "driver.unfenced",
            "files.openers",
            "files.workers",
            "files.twice",
            "threads.beside",
            "program.interrupted",
            "files.refused",
            "open.unchecked",
            "scopes.left",
        ),
        opening.at_the_driver,
    ),
    "driver.switch": opening.switch,
    "open.snapshot": stores.snapshot,
    "batch.nested": _nested,
}
"""Every call that is specified, by the name of its action."""

_ALONE: Final = frozenset({"maintenance", "outbox.recover", "outbox.import_legacy", "close", "tasks.restore"})
OPEN_TO_THE_STORE: Final = {
    "toil": "many calls of `tasks.progress`, whose texts are the harness's",
    "memory.import_legacy": "a ledger in memory, which leaves nothing",
    "older_row": "not a call: a row of an older version",
    "damaged_payload": "not a call: a damaged payload",
    "legacy_file": "not a call: a file of the old queue",
    "visit": "not a call: another process that reads",
    "spoiled_row": "not a call: a row written by another version or by hand",
    "meanwhile": "a read that is overtaken; its parts are calls of another process",
}
"""Actions of the harness that are no calls of the ledger, with the reason why nothing is specified of them."""


def step(world: World, state: State, name: str, args: Mapping[str, Any]) -> Outcome:
    """The outcome of the call; raises `Refusal`, and then nothing has changed.

    §1, batch: many mutations in one transaction, in which each sees the effect of the ones before it; on failure none
    happened. Calls with several commits can't be part of it.
    """
    if name != "batch":
        inner = dict(args)
        return ACTIONS[name](named(world, name, inner), state, **inner)
    outcomes: list[Outcome] = []
    answers: list[Any] = []
    for call in args["calls"]:
        now = outcomes[-1].state if outcomes else state
        inner, made = dict(call["args"]), call["name"]
        if made in _ALONE:
            raise Refusal("UsageError")
        world = named(world, made, inner)
        outcomes.append(ACTIONS[made](world, now, **inner))
        answers.append(outcomes[-1].answer)
        if says_no(answers[-1]):
            raise Refusal(None)
    return joined(outcomes, state, answers)


def says_no(answer: Any) -> bool:
    """Whether an answer itself reports that nothing was done; a caller aborts a batch there."""
    return isinstance(answer, Mapping) and False in (answer.get("changed"), answer.get("cancelled"))


def named(world: World, name: str, args: dict[str, Any]) -> World:
    """The world in which a new task gets the id in its action; removes it from the arguments."""
    return replace(world, new_id=args.pop("id")) if name == "tasks.create" and "id" in args else world
