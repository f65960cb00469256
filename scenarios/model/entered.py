"""A store that a context manager hands out, for a target: ``with open_shelf(path) as shelf``.

The store is entered when it is made, and left when it is closed; or each call enters one of its own, as a program does
whose transactions are ``with`` blocks, and an exception of the call ends it.

Not covered: asynchronous context managers, and what a call returns to be read later, after its block has ended.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any


def entered(manager: AbstractContextManager[Any] | Callable[[], AbstractContextManager[Any]]) -> "Entered":
    """The store that `manager` hands out; ``entered(lambda: session(path))`` enters one for each call.

    Raises what entering raises.
    """
    return EnteredForEachCall(manager) if not hasattr(manager, "__enter__") else Entered(manager)


class Entered:
    """What `entered` returns: it has every attribute of the store."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._store = manager.__enter__()

    def __getattr__(self, name: str) -> Any:
        if name == "_store":
            raise AttributeError(name)
        return getattr(self._store, name)

    def close(self) -> None:
        """Leave it without an exception, as the end of its block does."""
        self._manager.__exit__(None, None, None)


class EnteredForEachCall(Entered):
    """The same, with a store of its own for each call."""

    def __init__(self, enter: Any) -> None:
        self._enter = enter
        with enter() as store:
            self._store = store

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if not callable(value):
            with self._enter() as store:
                return getattr(store, name)

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._enter() as store:
                return getattr(store, name)(*args, **kwargs)

        return call

    def close(self) -> None:
        """Nothing is open between two calls."""
