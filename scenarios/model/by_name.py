"""Calls a method with arguments by name, also where some of its parameters take a value by position only."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def called(method: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What the method returns; raises what it raises."""
    code = getattr(inspect.unwrap(method), "__code__", None)
    # The first of them is ``self``, which has a value already.
    first = [name for name in code.co_varnames[: code.co_posonlyargcount] if name in arguments] if code else []
    rest = {name: value for name, value in arguments.items() if name not in first} if first else arguments
    return method(*(arguments[name] for name in first), **rest)
