"""The difference between what the specification gives and what the ledger says, for people."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tornpage.scenarios.model.judging.checks import Violation

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_IDS: Final = ("task_id", "session_id", "id")


def as_data(value: Any) -> Any:
    """An answer of the ledger as data, in which sequences are lists."""
    return msgspec.json.decode(msgspec.json.encode(value))


def is_alike(wanted: Any, found: Any) -> bool:
    """Whether two values are equal; unlike in Python, true is not 1 and false is not 0."""
    if type(wanted) is type(found) and type(wanted) in _SCALARS:
        # Most values: the questions below take several times as long.
        return bool(wanted == found)
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return wanted.keys() == found.keys() and all(is_alike(value, found[name]) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(is_alike, wanted, found))
    of_one_kind = isinstance(wanted, bool) == isinstance(found, bool) or not isinstance(wanted, int | float | bool)
    return of_one_kind and bool(wanted == found)


def accuse(what: object, wanted: Any, found: Any) -> None:
    """Raise the violation."""
    first, second = _parted(wanted, found)
    raise Violation("as-specified", f"{what}: the specification gives {first!r}, the ledger {second!r}")


def _parted(wanted: Any, found: Any) -> tuple[Any, Any]:
    """The difference of two values, for people: the names of rows whose order or number differs, else fields."""
    if isinstance(wanted, list) and isinstance(found, list) and (_names(wanted) or _names(found)):
        if _names(wanted) != _names(found):
            return _names(wanted), _names(found)
        return next(
            (_parted(*pair) for pair in zip(wanted, found, strict=True) if not is_alike(*pair)), (wanted, found)
        )
    if not (isinstance(wanted, Mapping) and isinstance(found, Mapping)):
        return wanted, found
    names = [name for name in {**wanted, **found} if not is_alike(wanted.get(name, ...), found.get(name, ...))]
    parts = {name: _parted(wanted.get(name), found.get(name)) for name in names}
    return {name: part[0] for name, part in parts.items()}, {name: part[1] for name, part in parts.items()}


def _names(rows: list[Any]) -> list[str]:
    """The ids of rows; empty for other values."""
    found = [next((row[key] for key in _IDS if key in row), "") for row in rows if isinstance(row, Mapping)]
    return [] if "" in found else found
