"""Simpler calls to replace one of the reference's.

They are the calls of a batch, or of another process, alone; and calls with fewer arguments, since most have a default.

A call that needs the missing argument raises TypeError, which shows no finding.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tornpage.scenarios.model.target import Action


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
        yield Action(action.name, {key: one for key, one in action.args.items() if key != name})


def _is_action(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"name", "args"}


def _as_action(value: Mapping[str, Any]) -> Action:
    return Action(value["name"], dict(value["args"]))
