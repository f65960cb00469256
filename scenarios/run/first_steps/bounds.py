"""The limit of what a store keeps in memory: lowered, so that a first target's few calls reach it.

Method. A number that the store, its class or what it keeps has as an attribute is set to 1 as soon as the store is
made, and the calls are made. It is such a limit if they do to the tables what they did without it, and if a collection
in memory then holds fewer items than it did. So a limit of rows is none: with it, rows go.
A number that another store, open at the same time, has otherwise may be a file descriptor, and is left alone: a store
that closes descriptor 1 closes standard output.

Not covered: limits by time or by bytes, of `functools.lru_cache`, and numbers in a module or in the source.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Final, Protocol

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.run.first_steps.more_calls import Effect
from tornpage.scenarios.run.first_steps.own_data import FAILURES, held

_LOWEST: Final = 1
_MOST_TRIED: Final = 12
_HIGHEST: Final = 1_000_000


class Player(Protocol):
    """A new store that can be played once."""

    own: Any
    peaks: dict[str, int]

    def effects(self, actions: Sequence[Action]) -> list[Effect | None]:
        """Make the calls and close the store; the effect of each, None for one that failed."""


def lowered_bound(fresh: Callable[[], Player], calls: Sequence[Action]) -> str:
    """The path of the attribute below the store, such as ``_cache.capacity``; "" for none.

    `fresh` makes a new store.
    """
    plain = fresh()
    numbers = dict(_numbers(plain.own))
    if not numbers:
        return ""
    other = fresh()
    same = dict(_numbers(other.own)).items() & numbers.items()
    other.effects(())
    paths = [path for path in numbers if (path, numbers[path]) in same][:_MOST_TRIED]
    effects = plain.effects(calls)
    for path in paths:
        less = fresh()
        # One that can't be set, or that something else needs.
        with contextlib.suppress(*FAILURES):
            lower(less.own, path)
            if less.effects(calls) == effects and _is_smaller(less.peaks, plain.peaks):
                return path
    return ""


def lower(store: Any, path: str) -> None:
    """Set such an attribute to 1."""
    *outer, name = path.split(".")
    for one in outer:
        store = getattr(store, one)
    setattr(store, name, _LOWEST)


def statement(path: str) -> str:
    """The same, as a line of a target."""
    return f"store.{path} = {_LOWEST}"


def _numbers(store: Any) -> Iterator[tuple[str, int]]:
    """The paths of numbers that may be a limit, each with the number."""
    own = dict(held(store))
    names = {name: one for kind in reversed(type(store).__mro__) for name, one in vars(kind).items()} | own
    yield from ((name, one) for name, one in names.items() if _may_be_one(one) and not name.startswith("__"))
    for name, one in own.items():
        if isinstance(one, Sized):
            yield from ((f"{name}.{key}", number) for key, number in held(one) if _may_be_one(number))


def _may_be_one(value: Any) -> bool:
    return type(value) is int and _LOWEST < value <= _HIGHEST and value not in (os.getpid(), os.getppid())


def sizes(store: Any) -> dict[str, int]:
    """How many items each collection has that a store holds, but for one that can't tell, such as a closed table."""
    found = {}
    for name, one in held(store):
        if isinstance(one, Sized) and not isinstance(one, (str, bytes)):
            with contextlib.suppress(Exception):
                found[name] = len(one)
    return found


def _is_smaller(peaks: dict[str, int], before: dict[str, int]) -> bool:
    """Whether a collection has had fewer items, and none has had more."""
    return peaks != before and all(size <= before.get(name, size) for name, size in peaks.items())
