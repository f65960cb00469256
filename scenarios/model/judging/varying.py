"""Answers that differ only in what differs from run to run: the time of day, and values of the store's own.

A store that stamps its rows with the system's clock stamps those of the shadow, and of a serial order, a moment earlier
or later. Where both answers have a time of the present in the same place, that place is not compared, and the rest is.
Times are recognised by their value: seconds, milliseconds, microseconds or nanoseconds since the epoch, days of the
Julian calendar, and ISO 8601 within a text. Of any other value, such as a random one, two runs of the same calls tell
whether it varies (`differ_where_these_do`). A target that takes the time from its environment, or declares
`deterministic`, has a time of the past, and is compared as a whole.

Not covered: a date without a time, which differs about midnight.
"""

import datetime
import math
import re
import time
from typing import Any, Final

_DAY_S: Final = 86_400
# A time that was taken now, or that ends a lease; and how far the two answers may be apart.
_PAST_S, _FUTURE_S, _APART_S = _DAY_S, 400 * _DAY_S, 600
_UNITS: Final = (1, 1_000, 1_000_000, 1_000_000_000)
# Nanoseconds of the present are below; a larger whole number may be none that a float can hold.
_LARGEST: Final = 10**21
_JULIAN_EPOCH_DAYS: Final = 2_440_587.5
_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?")


def differ_in_time_only(one: Any, other: Any) -> bool:
    """Whether two answers, as data, are equal but for times of the present."""
    if one == other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(differ_in_time_only(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(differ_in_time_only, one, other))
    if isinstance(one, str) and isinstance(other, str):
        return _texts_do(one, other)
    return _numbers_do(one, other)


def differ_where_these_do(one: Any, other: Any, first: Any, second: Any) -> bool:
    """Whether two answers differ only in places where `first` and `second`, of two more runs, differ from each other.

    In a list of another length each place counts in which any of their elements differ.
    """
    if differ_in_time_only(one, other):
        return True
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        first, second = (run if isinstance(run, dict) else {} for run in (first, second))
        return all(differ_where_these_do(one[key], other[key], first.get(key), second.get(key)) for key in one)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = list(zip(*(run if isinstance(run, list) else [] for run in (first, second)), strict=False))
        return all(
            any(differ_where_these_do(*both, *pair) for pair in ([pairs[at]] if len(pairs) == len(one) else pairs))
            for at, both in enumerate(zip(one, other, strict=True))
        )
    return first != second and len({type(value) for value in (one, other, first, second)}) == 1


def as_seconds(value: object) -> list[float]:
    """What a number may mean in seconds since the epoch, by the unit; empty for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _LARGEST:
        return []
    return [*(value / unit for unit in _UNITS), (value - _JULIAN_EPOCH_DAYS) * _DAY_S]


def _numbers_do(one: object, other: object) -> bool:
    return any(_are_of_now(*both) for both in zip(as_seconds(one), as_seconds(other), strict=False))


def _are_of_now(one: float, other: float) -> bool:
    now = time.time()
    return all(-_PAST_S < at - now < _FUTURE_S for at in (one, other)) and abs(one - other) < _APART_S


def _texts_do(one: str, other: str) -> bool:
    if _ISO.sub("", one) != _ISO.sub("", other):
        return _is_digits(one) and _is_digits(other) and _numbers_do(float(one), float(other))
    times = zip(_ISO.findall(one), _ISO.findall(other), strict=False)
    return all(_are_of_now(_seconds(first), _seconds(second)) for first, second in times if first != second)


def _is_digits(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


def _seconds(text: str) -> float:
    """The time of a text; one without a zone is taken for UTC, which may be hours off. NaN for no date."""
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).timestamp()
