"""Answers: the return value of a call as data, to compare with the same call's return value without a fault.

Compared are JSON-like values and types that map to them: bytes, times, decimals, UUIDs, paths, enums, sets, named
tuples, rows of sqlite3, dataclasses and records of msgspec, attrs and pydantic. Everything else (a cursor, an iterator,
the store itself) is never read: reading an iterator here would exhaust it for the caller.
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
from tornpage.scenarios.model.judging.varying import differ_in_time_only


class NotCompared(msgspec.Struct, frozen=True):
    """An answer that is not compared with anything, and the `reason`."""

    reason: str = "the target declares it"


NOT_COMPARED: Final = NotCompared()

# How often a call is repeated before its answer is called wrong.
REPETITIONS: Final = 16
_LONGEST_TEXT: Final = 80
# What the field is called by which an object says that a call has worked.
_SUCCESS: Final = ("ok", "success", "succeeded", "successful", "is_ok", "is_success")
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
    if names := _fields_of(type(returned)):
        return {name: as_data(getattr(returned, name)) for name in names}
    raise TypeError(f"a {type(returned).__qualname__} can't be compared")


def _fields_of(kind: type) -> list[str]:
    """The fields of a record; none for a row that an object-relational mapper may read later."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    if hasattr(kind, "__mapper__"):
        return []
    of_attrs, of_pydantic = (getattr(kind, name, None) for name in ("__attrs_attrs__", "model_fields"))
    if isinstance(of_attrs, tuple):
        return [one.name for one in of_attrs]
    return list(of_pydantic) if isinstance(of_pydantic, Mapping) else []


def as_answer(returned: object) -> Any:
    """The value as data, or `NotCompared` with the reason where it can't be compared."""
    try:
        return as_data(returned)
    except (TypeError, RecursionError) as error:
        return NotCompared(str(error) if isinstance(error, TypeError) else "it contains itself")


def in_words(value: object) -> str:
    """An answer as short text for people."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def reporting(returned: object) -> str:
    """The attribute by which an object says whether a call has worked; "" for none."""
    return next((name for name in _SUCCESS if type(getattr(returned, name, None)) is bool), "")


def reports_a_failure(answered: Any) -> bool:
    """Whether an answer, as data, says by its form that the call has failed."""
    if isinstance(answered, Mapping):
        return any(answered.get(name) is False for name in _SUCCESS)
    return answered is False


def agreed(first: Any, *others: Any) -> Any:
    """The answer of a call without a fault, from several runs; `NotCompared` where they differ, but for the time."""
    for answer in (first, *others):
        if isinstance(answer, NotCompared):
            return answer
    for other in others:
        if not differ_in_time_only(first, other):
            said = f"{in_words(first)} and {in_words(other)}"
            return NotCompared(f"called twice from the same state without a fault, it returns {said}")
    return first


def in_any_order(answer: Any) -> Any:
    """An answer that is equal to another one if they differ in the order of a list only."""
    return sorted(map(repr, answer)) if isinstance(answer, list) else answer


def is_wrong(answered: Any, wanted: Any, again: Callable[[], Any]) -> bool:
    """Whether an answer differs from the answer without a fault; `again` repeats the call without one.

    Times of the present are not compared. An answer that varies from call to call, such as a random value, is not
    wrong: before the check fails, the call is repeated. Of two rows drawn at random each comes half of the time, so a
    few repetitions often agree by chance.
    """
    return not is_alike(answered, wanted) and all(is_alike(again(), wanted) for _ in range(REPETITIONS))


def is_alike(answered: Any, wanted: Any) -> bool:
    """Whether an answer is the wanted one, as far as they are compared."""
    if isinstance(answered, NotCompared) or isinstance(wanted, NotCompared):
        return True
    return differ_in_time_only(answered, wanted)
