"""Other stores (§2, store interface): whatever a store offers, the ledger on it answers the same."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tornpage.scenarios.targets.reference.model.lookups import newest_first
from tornpage.scenarios.targets.reference.model.state import Outcome, State
from tornpage.scenarios.targets.reference.model.values import Refusal
from tornpage.scenarios.targets.reference.model.world import World

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
) -> Outcome:
    """§2: the finest method that a store offers, else a projected copy; §0: a failed write changed nothing.

    A store that fails after its work has done it, so the call succeeds; one that can't be asked leaves it open.
    Nobody asks a runtime, and nobody is known to work on a task.
    """
    del lacks
    alone, now, answers = replace(world, controls={}, backs=frozenset()), State.of({}), list[Any]()
    for number, call in enumerate(calls):
        now, answer = _called(step, alone, now, call, (fails or {}).get(str(number)))
        answers.append([answer, [*now.task], sorted(now.delivery)])
    tasks = newest_first(now.task.values())
    answers.append("StoreUnavailable unchanged")
    deliveries = [now.delivery.get(task["task_id"]) for task in tasks]
    modes = ["600"] if kind == "json" else []
    answers.append({"tasks": tasks, "deliveries": deliveries, "copies": True, "modes": modes})
    return Outcome(state, answers)


def _called(step: Step, world: World, now: State, call: Mapping[str, Any], fails: str | None) -> tuple[State, Any]:
    name = call["name"]
    args = {"apply": True, **call["args"]} if name == "maintenance" else call["args"]
    try:
        outcome = step(world, now, name, args)
    except Refusal as refusal:
        return now, refusal.error
    if fails in ("before", "gone") and outcome.state != now:
        return now, "StoreError unchanged" if fails == "before" else "StoreError unknown"
    return outcome.state, outcome.answer
