"""What a value in memory has of a row: it is a column, as it is or decoded, or its parts are.

A part is an item by the column's name, an attribute of that name, or an item by its place.
"""

import contextlib
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any, Final

from tornpage.scenarios.run.first_steps.tables import Table
from tornpage.scenarios.run.first_steps.values import is_plain

_NOTHING: Final = object()
# How a column may hold a value, as source, and how it is read.
DECODED: Final[tuple[tuple[str, Callable[[Any], Any]], ...]] = (
    ("{}", lambda stored: stored),
    ("json.loads({})", json.loads),
    ("pickle.loads({})", pickle.loads),
)


def decoded(values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """The values of a column as they are, and what they hold as JSON or pickled; each with its source."""
    for way, decode in DECODED:
        # The store's own data, in a directory of ours.
        with contextlib.suppress(Exception):
            yield way, [decode(one) for one in values]


def parts_in(
    table: Table, keys: list[str], pairs: list[tuple[tuple[Any, ...], Any]]
) -> tuple[list[str], str, str] | None:
    """For rows, each with its value in memory: the columns of the value, its source, and that of the same from a row.

    In the source a value is `one`; a row is `row`, and has first the columns `keys`. None if no column is in the value.
    """
    columns = [(place, name) for place, name in enumerate(table.columns) if name not in keys]
    first, values = len(keys), [one for _, one in pairs]
    for place, name in columns:
        for way, stored in decoded([row[place] for row, _ in pairs]):
            if list(map(repr, stored)) == list(map(repr, values)):
                return [name], "one", way.format(f"row[{first}]")
    shown, sources, reads = list[str](), list[str](), list[str]()
    for place, name in columns:
        if found := _part(name, [row[place] for row, _ in pairs], values, sources):
            source, way = found
            reads.append(way.format(f"row[{first + len(shown)}]"))
            shown.append(name)
            sources.append(source)
    return (shown, f"[{', '.join(sources)}]", f"[{', '.join(reads)}]") if shown else None


def _part(name: str, stored: list[Any], values: list[Any], taken: list[str]) -> tuple[str, str] | None:
    """The source of the part of the values that a column holds, and how it is read; a part is one column's."""
    for source, parts in _parts(name, values):
        if source not in taken:
            for way, there in decoded(stored):
                if list(map(repr, there)) == list(map(repr, parts)):
                    return source, way
    return None


def _parts(name: str, values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """The parts of all values that may be a column of that name, each with its source."""
    found = []
    if all(isinstance(one, dict) for one in values):
        found.append((f'one["{name}"]', [one.get(name, _NOTHING) for one in values]))
    elif all(isinstance(one, (tuple, list)) and not hasattr(one, "_fields") for one in values):
        shortest = min((len(one) for one in values), default=0)
        found += [(f"one[{place}]", [one[place] for one in values]) for place in range(shortest)]
    elif name.isidentifier():
        found.append((f"one.{name}", [getattr(one, name, _NOTHING) for one in values]))
    yield from ((source, parts) for source, parts in found if all(map(is_plain, parts)))
