"""The data that a store holds and answers, read while it is played."""

import contextlib
import copy
import io
import itertools
import operator
import os
import threading
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final

from tornpage.scenarios.execution.call_timeout import TookTooLongError, limit
from tornpage.scenarios.model.functions import Functions, variables
from tornpage.scenarios.model.judging.answers import NotCompared, as_answer

# The longest time of one call.
A_CALL_S: Final = 3.0
# All errors that a store may raise for our arguments; some end the process on purpose.
FAILURES: Final = (Exception, SystemExit, TookTooLongError)
_MOST_ITEMS: Final = 10_000


def held(store: Any) -> list[tuple[str, Any]]:
    """Its attributes, including those of slots."""
    if isinstance(store, Functions):
        return list(variables(store).items())
    slots = [name for kind in type(store).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(store, name)]
    return [*getattr(store, "__dict__", {}).items(), *((name, getattr(store, name)) for name in slots)]


def properties(store: Any) -> list[str]:
    """Its public properties that are no attributes of their own."""
    named = {name: one for kind in reversed(type(store).__mro__) for name, one in vars(kind).items()}
    return [name for name, one in named.items() if isinstance(one, property) and not name.startswith("_")]


def asked(store: Any, name: str) -> Any:
    """What an attribute holds, or a method (its name ends with "()") returns, as data; None for anything else."""
    try:
        if name.endswith("()"):
            with limit(A_CALL_S, f"{name} did not return"):
                answer = operator.attrgetter(name[:-2])(store)()
                return dict(answer) if name == "items()" else _listed(answer)
        with limit(A_CALL_S, f"{name} did not return"):
            return copied(operator.attrgetter(name)(store))
    except FAILURES:
        return None


def _listed(answer: Any) -> Any:
    """The answer of a method as data; the beginning of one that is read step by step, such as a view of keys."""
    if isinstance(answer, io.IOBase):
        return None
    is_lazy = isinstance(answer, (Iterator, KeysView, ValuesView, ItemsView))
    return list(itertools.islice(answer, _MOST_ITEMS)) if is_lazy else copied(answer)


def copied(value: Any) -> Any:
    """A collection as data; the store's own iterators are not read: it may need what they yield, or they never end."""
    if isinstance(value, Mapping):
        return {key: _as_it_is_now(one) for key, one in value.items()}
    return list(map(_as_it_is_now, value)) if isinstance(value, (set, frozenset, list, tuple)) else None


def _as_it_is_now(value: Any) -> Any:
    """A copy of an object that the store may change later; one that can't be copied as it is."""
    with contextlib.suppress(Exception):
        return copy.deepcopy(value)
    return value


def is_data(value: Any) -> bool:
    """Whether an answer says something that can be compared."""
    data = as_answer(value)
    return data is not None and not isinstance(data, NotCompared) and data not in ([], {}, "")


def holds_data(value: Any, connections: tuple[type, ...]) -> bool:
    """Whether what `asked` returned is a collection that has more than connections."""
    items = value.values() if isinstance(value, dict) else value or ()
    return any(not isinstance(one, connections) for one in items)


def _key(key: str | int) -> str:
    """A key of a mapping as the target asks for it, also one that says which thread or process it is."""
    ours = {threading.get_ident(): "threading.get_ident()", os.getpid(): "os.getpid()"}
    return ours.get(key, repr(key)) if isinstance(key, int) else repr(key)


def connection_in(store: Any, classes: tuple[type, ...]) -> str | None:
    """Where it keeps its connection, as Python reads it: `db`, `_local.connection`, `_pool[0]`; None for nowhere."""
    found = held(store)
    one = next((name for name, value in found if isinstance(value, classes)), None)
    if one is not None:
        return one
    for name, value in found:
        if isinstance(value, Mapping):
            items: list[tuple[Any, Any]] = []
            with contextlib.suppress(Exception):  # One that reads a table, or can't be listed.
                items = list(value.items())
            inner = [(f"{name}[{_key(key)}]", one) for key, one in items if isinstance(key, (str, int))]
        elif isinstance(value, (list, tuple)):
            inner = [(f"{name}[{index}]", one) for index, one in enumerate(value)]
        else:
            inner = [(f"{name}.{key}", one) for key, one in getattr(value, "__dict__", {}).items()]
        if there := next((path for path, one in inner if isinstance(one, classes)), None):
            return there
    return None
