"""Simpler calls to replace one of the reference's.

They are the calls of a batch, or of another process, alone; and calls with fewer arguments, since most have a default.

No argument is left out that a method of the ledger needs: without it the call raises TypeError, which shows no finding.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tornpage.ledger import NewTask, RunHistory, TaskRegistry
from tornpage.ledger.outbox import Outbox
from tornpage.scenarios.model.target import Action

_PARTS: Final = {"tasks": TaskRegistry, "history": RunHistory, "outbox": Outbox}


def simpler_actions(action: Action) -> Iterator[Action]:
    """A smaller action: one of the calls that it consists of, or without one of its arguments."""
    for value in action.args.values():
        yield from (_as_action(one) for one in (value if isinstance(value, list) else [value]) if _is_action(one))
    for name, value in action.args.items():
        if isinstance(value, list) and len(value) > 1 and all(map(_is_action, value)):
            for index in range(len(value)):
                yield Action(action.name, {**action.args, name: value[:index] + value[index + 1 :]})
        elif _is_action(value):
            for inner in simpler_actions(_as_action(value)):
                yield Action(action.name, {**action.args, name: {"name": inner.name, "args": inner.args}})
        if name not in _needed(action.name):
            yield Action(action.name, {key: one for key, one in action.args.items() if key != name})


def _is_action(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"name", "args"}


def _as_action(value: Mapping[str, Any]) -> Action:
    return Action(value["name"], dict(value["args"]))


@functools.cache
def _needed(name: str) -> frozenset[str]:
    """The arguments that a method of the ledger can't be called without; none of an action that is no such method."""
    if name == "tasks.create":
        return frozenset(field.name for field in msgspec.structs.fields(NewTask) if field.required)
    part, _, method = name.partition(".")
    called = getattr(_PARTS.get(part), method, None)
    parameters = inspect.signature(called).parameters.values() if callable(called) else ()
    needed = (one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD)
    return frozenset(needed)
