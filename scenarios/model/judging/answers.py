"""Answers: what a call returns, as data that can be compared with what the same call returns without a fault.

Compared are JSON-like values, and what plainly is one in another dress: bytes, times, decimals, UUIDs, paths, enums,
sets, named tuples, rows of sqlite3, dataclasses and other records with named fields. Everything else (a cursor, an
iterator, the store itself) is never looked into: an iterator that is read here would be used up for its caller.
"""

import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tornpage.faults.sqlite_library import sqlite3


class NotCompared(msgspec.Struct, frozen=True):
    """Stands for an answer that is not held against anything, for a `reason`."""

    reason: str = "the target says so"


NOT_COMPARED: Final = NotCompared()

_LONGEST_TEXT: Final = 80
_TEXTS: Final = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, pathlib.PurePath)


def as_data(returned: object) -> Any:
    """The value as JSON-like data; raises TypeError, naming the type, for one that can't be compared."""
    if isinstance(returned, enum.Enum):
        return as_data(returned.value)
    if returned is None or isinstance(returned, bool | int | str | NotCompared):
        return returned
    if isinstance(returned, float):
        # Nothing equals a NaN, itself included.
        return "nan" if math.isnan(returned) else returned
    if isinstance(returned, bytes | bytearray | memoryview):
        return f"bytes {bytes(returned).hex()}"
    if isinstance(returned, _TEXTS):
        return str(returned)
    return _container(returned)


def _container(returned: object) -> Any:
    if isinstance(returned, sqlite3.Row):
        return {name: as_data(returned[name]) for name in returned.keys()}  # noqa: SIM118 - a row has no other way
    if isinstance(returned, Mapping):
        return {key if isinstance(key, str) else str(as_data(key)): as_data(value) for key, value in returned.items()}
    if isinstance(returned, list | tuple):
        return [as_data(one) for one in returned]
    if isinstance(returned, set | frozenset):
        return sorted(map(as_data, returned), key=repr)
    if isinstance(returned, msgspec.Struct):
        return {name: as_data(getattr(returned, name)) for name in returned.__struct_fields__}
    if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        return {field.name: as_data(getattr(returned, field.name)) for field in dataclasses.fields(returned)}
    raise TypeError(f"a {type(returned).__qualname__} can't be compared")


def as_answer(returned: object) -> Any:
    """The value as data, or `NotCompared` with the reason where it can't be compared."""
    try:
        return as_data(returned)
    except (TypeError, RecursionError) as error:
        return NotCompared(str(error) if isinstance(error, TypeError) else "it contains itself")


def in_words(value: object) -> str:
    """An answer for people: short, whatever it is."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def agreed(first: Any, *others: Any) -> Any:
    """What a call answers without a fault, by several runs of it; `NotCompared` where they don't say the same."""
    for answer in (first, *others):
        if isinstance(answer, NotCompared):
            return answer
    for other in others:
        if other != first:
            said = f"{in_words(first)} and {in_words(other)}"
            return NotCompared(f"made twice from the same state and without a fault, it answers {said}")
    return first


def is_wrong(answered: Any, wanted: Any, again: Callable[[], Any]) -> bool:
    """Whether an answer is not the one that is given without a fault; `again` makes the call once more without one.

    An answer that is another one each time, such as a timestamp, is not wrong: before anybody is accused the call is
    made twice more.
    """
    if isinstance(answered, NotCompared) or isinstance(wanted, NotCompared) or answered == wanted:
        return False
    return all(again() == wanted for _ in range(2))
