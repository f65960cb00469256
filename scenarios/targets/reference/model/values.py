"""The values that a caller may give (§2), and texts of which only the meaning is specified."""

import json
import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

RUNTIMES: Final = ("subagent", "acp", "cli", "cron")
ACTIVE: Final = ("queued", "running")
TERMINAL: Final = ("succeeded", "failed", "timed_out", "cancelled", "lost")
STATUSES: Final = (*ACTIVE, *TERMINAL)
DELIVERY_STATUSES: Final = ("pending", "delivered", "session_queued", "failed", "parent_missing", "not_applicable")
NOTIFY_POLICIES: Final = ("done_only", "state_changes", "silent")
OUTCOMES: Final = ("succeeded", "blocked")
SCOPES: Final = ("session", "system")
RESULTS: Final = ("success", "failure", "cancelled", "interrupted", "aborted_no_skill")
PENDING: Final = ("queued", "failed_retryable")
MESSAGE_STATUSES: Final = (*PENDING, "delivered", "failed_terminal", "expired")

_EARLIEST_MS: Final = -62_135_596_800_000
_LATEST_MS: Final = 253_370_764_800_000
_LARGEST_INTEGER: Final = 2**63 - 1
_DEEPEST_JSON: Final = 64
_WORKER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """The ledger refuses with the error of this name: ``UsageError``, ``NotFound`` or ``IllegalTransition``.

    None: it reports the refusal in an answer, without an error. `about` is what its text has to name, where that is
    none of the arguments.
    """

    def __init__(self, error: str | None, about: str | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.about = about


class Text:
    """Matches any text that is not blank and names all of `parts`; the wording is not specified."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Text):
            return self.parts == other.parts
        return isinstance(other, str) and bool(other.strip()) and all(part in other for part in self.parts)

    __hash__ = None  # type: ignore[assignment] # equal to many

    def __repr__(self) -> str:
        return f"<a text with {', '.join(map(repr, self.parts)) or 'anything'}>"


class Dated(Text):
    """Matches a text that also has this moment, in any form of ISO 8601 and to the second, before a comma."""

    def __init__(self, time_ms: int, *parts: str) -> None:
        super().__init__(*parts)
        self._seconds = time_ms // 1000

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and (isinstance(other, Text) or self._seconds in map(_moment, str(other).split()))

    __hash__ = None


def _moment(word: str) -> int | None:
    try:
        return int(datetime.fromisoformat(word.rstrip(",")).timestamp())
    except ValueError:
        return None


class Printable(Text):
    """Matches a text that can't move the cursor of a terminal, either."""

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and (isinstance(other, Text) or str(other).isprintable())

    __hash__ = None


class Anything:
    """Stands for whatever there is: nothing is specified of it."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment] # equal to all

    def __repr__(self) -> str:
        return "<anything>"


class JsonText:
    """Matches any JSON text of a value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        try:
            return bool(as_json(other) == self.value)
        except ValueError:
            return False

    __hash__ = None  # type: ignore[assignment] # equal to many

    def __repr__(self) -> str:
        return f"<JSON of {self.value!r}>"


def as_json(text: object) -> Any:
    """The value of a JSON text; ValueError if it is invalid."""
    if isinstance(text, JsonText):
        return text.value
    if not isinstance(text, str):
        raise ValueError("no text")  # noqa: TRY004 - one error for all that is no JSON
    try:
        return json.loads(text, parse_constant=_no_json, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("too deep") from error


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    """Valid JSON, and read as infinity, which isn't."""
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is too large")
    return float(text)


def refuse(error: str) -> None:
    """Raise the refusal."""
    raise Refusal(error)


def an_id(value: Any) -> str:
    """An id, unchanged: any text that is Unicode."""
    if not isinstance(value, str):
        raise Refusal("UsageError")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refusal("UsageError") from None
    return value


def given(value: Any) -> str | None:
    """A text, unchanged; blank counts as absent."""
    return None if value is None or not an_id(value).strip() else value


def trimmed(value: Any) -> str | None:
    """A text without white space around it; blank is absent (§2: keys are trimmed)."""
    text = given(value)
    return text.strip() if text is not None else None


def key_of(value: str | None) -> str | None:
    """A stored key in the form in which keys are compared."""
    return (value.strip() or None) if value is not None else None


def collapsed(value: Any) -> str | None:
    """§2, create: summaries are whitespace-collapsed, blank = absent."""
    text = given(value)
    return " ".join(text.split()) if text is not None else None


def one_of(allowed: Iterable[str], value: Any) -> str:
    """A member of an enumeration."""
    if not isinstance(value, str) or value not in tuple(allowed):
        raise Refusal("UsageError")
    return value


def one_of_or_none(allowed: Iterable[str], value: Any) -> str | None:
    """A member of an enumeration, or nothing."""
    return None if value is None else one_of(allowed, value)


def a_time(value: Any) -> int | None:
    """§2: integer milliseconds since the epoch; None is allowed."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not _EARLIEST_MS <= value <= _LATEST_MS:
        raise Refusal("UsageError")
    return value


def the_time(now_ms: int) -> int:
    """What a clock says, where it is written; refused if no row could show it."""
    try:
        a_time(now_ms)
    except Refusal:
        raise Refusal("UsageError", about="now") from None
    return now_ms


def a_count(value: Any) -> int | None:
    """A whole number that SQLite can hold, not negative; None is allowed."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_INTEGER:
        raise Refusal("UsageError")
    return value


def a_cost(value: Any) -> float | None:
    """A number of dollars, not negative and finite; None is allowed."""
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (math.isfinite(value) and value >= 0):
        raise Refusal("UsageError")
    return float(value)


def a_span(value: Any, *, zero: bool = False) -> float:
    """§5, prune: a span of time is finite and more than 0 (or, with `zero`, 0)."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise Refusal("UsageError")
    return float(value)


def json_value(value: Any) -> Any:
    """A JSON value as it is read back from a file.

    One without a JSON form, too deep, or of which a file would keep one of two keys, is refused.
    """
    try:
        copied = json.loads(json.dumps(value, allow_nan=False))
        if _count_of_members(copied) != _count_of_members(value):
            raise Refusal("UsageError")
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise Refusal("UsageError") from None
    depth, level = 0, [copied]
    while level := [one for one in level if isinstance(one, list | dict)]:
        depth += 1
        level = [one for each in level for one in (each.values() if isinstance(each, dict) else each)]
    if depth > _DEEPEST_JSON:
        raise Refusal("UsageError")
    return copied


def _count_of_members(value: Any) -> int:
    """How many values are in a JSON value, at all depths."""
    if not isinstance(value, list | tuple | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return sum(1 + _count_of_members(one) for one in inner)


def a_worker_id(value: Any) -> str:
    """A valid name of a lock file (§4)."""
    if not isinstance(value, str) or _WORKER_ID.fullmatch(value) is None:
        raise Refusal("UsageError")
    return value
