"""Workers (§4): a worker lives for as long as its lock is held; an id is used once, until its file is cleaned away."""

from collections.abc import Iterable
from typing import Any

from tornpage.scenarios.targets.reference.model.state import Outcome, State
from tornpage.scenarios.targets.reference.model.values import Refusal, a_worker_id
from tornpage.scenarios.targets.reference.model.world import World

Held = dict[str, bool]


def life(_world: World, state: State, *, calls: Iterable[tuple[str, Any]], place: str = "directory") -> Outcome:
    """§4: calls on the workers of one state directory, from none on; what each answers, or how it is refused.

    Silent there: where a file or a link stands in the directory's place no worker can be registered; an id
    that may be one there, as far as can be found out, is taken for alive.
    """
    if place in ("file", "link"):
        return Outcome(state, [_elsewhere(place, name, argument) for name, argument in calls])
    held: Held = {}
    answers: list[Any] = []
    for name, argument in calls:
        try:
            answers.append(_made(held, name, argument))
        except Refusal as refusal:
            answers.append(refusal.error)
    return Outcome(state, answers)


def _made(held: Held, name: str, argument: Any) -> Any:
    if name == "hold":
        worker = a_worker_id(argument)
        if worker in held:
            raise Refusal("IllegalTransition")
        held[worker] = True
        return worker
    if name == "is_alive":
        return held.get(argument, False)
    if name == "clean":
        dead = sorted(worker for worker, is_held in held.items() if not is_held and worker not in argument)
        for worker in dead:
            del held[worker]
        return dead
    if not held.get(argument, False):
        raise Refusal("NotFound")
    held[argument] = False
    if name == "retire":
        del held[argument]
    return None


def _elsewhere(place: str, name: str, argument: Any) -> Any:
    """A call where there is no directory of the ledger's own."""
    if name == "clean":
        return []
    try:
        a_worker_id(argument)
    except Refusal as refusal:
        return {"hold": refusal.error, "is_alive": False}.get(name, "NotFound")
    return {"hold": "StoreUnavailable", "is_alive": place == "file"}.get(name, "NotFound")
