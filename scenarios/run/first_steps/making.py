"""A store made for the first time: by its class or function, then by the methods that open it.

Method. If no table is there after the constructor, its methods without arguments that open a store by their name are
called, one after the other, until one is. An asynchronous store is run to the end of each call by `awaited`.

Not covered: opening methods that need arguments, and asynchronous stores of trio.
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from tornpage.scenarios.model.awaited import Awaited, awaited, unwrapped
from tornpage.scenarios.run.first_steps.arguments import needed
from tornpage.scenarios.run.first_steps.own_data import FAILURES

_OPENINGS: Final = (
    "open", "connect", "start", "init", "initialize", "initialise", "setup", "set_up", "__aenter__", "__enter__",
    "create_tables", "create_table", "create_schema", "init_schema", "init_db", "initialize_db", "ensure_schema",
    "create", "migrate", "prepare",
)  # fmt: skip
_ENTERS: Final = ("__aenter__", "__enter__")


class Made(NamedTuple):
    """A store, with calls that wait for their end; the object itself; how both were made, by which opening methods."""

    store: Any
    own: Any
    make: str
    openings: tuple[str, ...]


def made(make: str, names: Mapping[str, Any], has_tables: Callable[[], bool]) -> Made:
    """Evaluate the expression and open the store; raises what they raise."""
    first = _made(make, names)
    if has_tables() or not (openings := _openings_of(first.own)):
        return first
    opened = list[str]()
    try:
        for name in openings:
            if name in _ENTERS and opened:
                continue
            getattr(first.store, name)()
            opened.append(name)
            if has_tables():
                return first._replace(openings=tuple(opened))
    except BaseException:
        _close(first)
        raise
    # It creates its tables at its first call, and needs nothing before.
    _close(first)
    return _made(make, names)


def _close(made: Made) -> None:
    with contextlib.suppress(*FAILURES):
        made.store.close()


def make_text(made: Made) -> str:
    """The expression of an asynchronous store, with what opens it; others are opened by statements of their own."""
    if not isinstance(made.store, Awaited):
        return made.make
    return f"awaited({', '.join([made.make, *map(_quoted, made.openings)])})"


def _made(make: str, names: Mapping[str, Any]) -> Made:
    store = eval(make, dict(names))  # noqa: S307 - our own expression, of the user's own class
    if inspect.isawaitable(store) or _is_asynchronous(type(store)):
        store = awaited(store)
    return Made(store, unwrapped(store), make, ())


def _is_asynchronous(kind: type) -> bool:
    """Whether a class has public coroutine methods, or is entered by ``async with``."""
    return any(
        inspect.iscoroutinefunction(method) and (not name.startswith("_") or name == "__aenter__")
        for one in kind.__mro__
        for name, method in vars(one).items()
    )


def _openings_of(store: Any) -> list[str]:
    """Its methods without arguments that open it, by their names."""
    methods = ((name, getattr(type(store), name, None)) for name in _OPENINGS)
    return [name for name, method in methods if inspect.isfunction(method) and not needed(method)]


def _quoted(name: str) -> str:
    return f'"{name}"'
