"""Checks and normal forms of a caller's values: text, enumeration members, times, JSON.

Memory must equal disk, so a value that SQLite or a JSON file can't return exactly is refused (or converted to its
stored form) before any write: text that is not valid Unicode (a lone surrogate), a time that is not a whole number, a
JSON value with NaN. A refusal raises `UsageError`, which shows the value and says what is allowed. Rows read from a
file are not checked here.
"""

# no fault in this file: it only checks arguments.

import json
from collections import Counter
from enum import StrEnum
from typing import Final, TypeVar

from tornpage.ledger.errors import UsageError
from tornpage.ledger.records import EARLIEST_MS, LATEST_MS, DeliveryState, JsonValue

DEEPEST_JSON: Final = 64
"""How deeply lists and dicts may be nested in a JSON value; recursive readers can handle that at any call depth."""

_Member = TypeVar("_Member", bound=StrEnum)


def blank_to_none(value: str | None) -> str | None:
    """Trimmed text, None if blank or absent: the form in which two texts or keys are compared."""
    return (value.strip() or None) if value is not None else None


def checked_id(name: str, value: str) -> str:
    """The id unchanged; raises UsageError if it is not text or not valid Unicode.

    Call it before a row is looked up by an id: a lone surrogate (a byte on the command line that is not UTF-8 also
    becomes one) would fail only inside the driver, and doom a whole batch.
    """
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, not {value!r} ({type(value).__name__})")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name} must be valid Unicode, not {value!r}: {error.reason}") from error
    return value


def given_text(name: str, value: str | None) -> str | None:
    """The text unchanged, None if blank; raises UsageError if it is not text or not valid Unicode."""
    if value is None:
        return None
    return value if checked_id(name, value).strip() else None


def trimmed(name: str, value: str | None) -> str | None:
    """The text without surrounding white space, None if blank; raises UsageError as `given_text` does."""
    return blank_to_none(given_text(name, value))


def collapsed(name: str, value: str | None) -> str | None:
    """The text with every run of white space as one space, None if blank; raises UsageError as `given_text`."""
    text = given_text(name, value)
    return " ".join(text.split()) if text is not None else None


def member(name: str, kind: type[_Member], value: str) -> _Member:
    """The member of an enumeration, also from its plain text; raises UsageError with the valid ones."""
    try:
        return kind(value)
    except ValueError as error:
        raise UsageError(f"{name} must be one of {', '.join(kind)}, not {value!r}") from error


def time_ms(name: str, value: int) -> int:
    """A time in milliseconds since the epoch; raises UsageError if it is not a whole number or out of range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(
            f"{name} must be a whole number of milliseconds since the epoch, not {value!r} ({type(value).__name__})"
        )
    if not EARLIEST_MS <= value <= LATEST_MS:
        raise UsageError(f"{name} must lie between {EARLIEST_MS} and {LATEST_MS} (years 1 to 9998), not {value}")
    return value


def optional_time_ms(name: str, value: int | None) -> int | None:
    """As `time_ms`, None if absent."""
    return None if value is None else time_ms(name, value)


def json_value(name: str, value: JsonValue) -> JsonValue:
    """A deep copy in the form in which it is read back from a file (tuples as lists, keys as text).

    Raises UsageError if the value has no JSON form (NaN, infinity, a cycle, an object, invalid Unicode), has two keys
    that are equal as text (1 and "1"), or is nested deeper than `DEEPEST_JSON`.
    """
    if value is None:
        return None
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        copied = json.loads(text, object_pairs_hook=with_each_key)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{name} must be a JSON value: {error}") from error
    if depth(copied) > DEEPEST_JSON:
        raise UsageError(f"{name} must be a JSON value nested at most {DEEPEST_JSON} deep")
    return copied


def with_each_key(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """The dict of these pairs; raises ValueError if it has not all of them."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"two keys are {twice!r} as text")
    return found


def canonical(value: JsonValue) -> str:
    """A text that is equal for equal JSON values alone: to Python, true is 1 and 1.0 as well."""
    return json.dumps(value, sort_keys=True)


def same_delivery(one: DeliveryState | None, other: DeliveryState | None) -> bool:
    """Whether two delivery states are equal as JSON."""
    if one is None or other is None or one != other:
        return one is other
    return canonical(one.requester_origin) == canonical(other.requester_origin)


def depth(value: JsonValue) -> int:
    """The nesting depth of lists and dicts; 0 for a plain value."""
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, (list, dict))]:
        depth += 1
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return depth
