"""The ledger's lists and queries, compared with the model."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tornpage.ledger import Ledger
from tornpage.ledger.disk.rows import Unreadable
from tornpage.scenarios.model.target import Action, View
from tornpage.scenarios.targets.reference import model
from tornpage.scenarios.targets.reference.compared.differing import accuse, as_data

_MOST_KEYS: Final = 3


def check_lists(listed: Mapping[str, Any], view: View, now_ms: int) -> None:
    """Compare the answers of the lists, by their action, with the model. Raises `Violation`."""
    state, world = model.State.of(view), model.World(now_ms)
    for name, answer in listed.items():
        wanted, found = model.step(world, state, name, {}).answer, as_data(answer)
        if found != wanted:
            accuse(str(Action(name)), wanted, found)


def check_looks(ledger: Ledger, view: View, now_ms: int) -> None:
    """Compare the ledger's answer to each kind of query with the model. Raises `Violation`."""
    state, world = model.State.of(view), model.World(now_ms)
    for name, args in _questions(state):
        part, _, method = name.partition(".")
        try:
            wanted = model.step(world, state, name, args).answer
        except model.Refusal as refusal:
            wanted = refusal.error
        try:
            found = as_data(getattr(getattr(ledger, part), method)(**args))
        except Unreadable as error:
            found = type(error).__name__
        if found != wanted:
            accuse(str(Action(name, args)), wanted, found)


def _questions(state: model.State) -> Iterator[tuple[str, dict[str, Any]]]:
    tasks = list(state.task.values())
    for task_id in [*state.task][:_MOST_KEYS]:
        yield "tasks.find", {"token": task_id}
        yield "tasks.get_delivery", {"task_id": task_id}
    for owner in _some(one["owner_key"] for one in tasks):
        yield "tasks.list_for_owner", {"owner_key": owner}
        yield "tasks.list_fresh_for_owner", {"owner_key": f" {owner}\t"}
    for run in _some(one["run_id"] for one in tasks):
        yield "tasks.list_by_run", {"run_id": run}
        yield "tasks.find", {"token": f" {run} "}
    for flow in _some(one["parent_flow_id"] for one in tasks):
        yield "tasks.list_by_parent_flow", {"parent_flow_id": flow}
    for session in _some(one[name] for one in tasks for name in ("child_session_key", "owner_key")):
        yield "tasks.list_for_session", {"session_key": session}
        yield "tasks.find", {"token": session}


def _some(keys: Iterable[str | None]) -> list[str]:
    """A few of the keys that there are."""
    return sorted({key for key in keys if key})[:_MOST_KEYS]
