"""Data in memory whose keys are several columns: by tuples, a mapping in a mapping, and groups of keys.

Method. Each shape is flattened to one tuple for each entry, and its value. Columns of the table whose rows have these
tuples, each once, are the key; a value is a column too, as it is or decoded, or has some of the others as its parts.

Not covered: mappings in mappings in a mapping, and values that differ from the columns in more than their encoding.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from tornpage.scenarios.run.first_steps.parts import parts_in
from tornpage.scenarios.run.first_steps.tables import Table

_MOST_KEYS: Final = 24


class Shape(NamedTuple):
    """Such data, flat: each key with its value, and the source of its iteration, of its key and of its value."""

    entries: list[tuple[tuple[Any, ...], Any]]
    source: str
    key: str
    value: str


class Matched(NamedTuple):
    """The columns of the key, then those of the value; the source of the value of the data, and of a row."""

    columns: list[str]
    shown: list[str]
    value: str
    row: str


def shapes_of(name: str, value: Any) -> Iterator[Shape]:
    """The shapes that an attribute's data may have, as source that reads it from `store`."""
    if isinstance(value, Mapping):
        items = list(value.items())
        pairs = f"for key, one in store.{name}.items()"
        yield Shape([(key, one) for key, one in items if isinstance(key, tuple)], pairs, "tuple(key)", "one")
        inner = [(key, one) for key, one in items if isinstance(one, Mapping)]
        inside = f"for key, inner in store.{name}.items() for other, one in inner.items()"
        nested = [((key, other), one) for key, more in inner for other, one in more.items()]
        yield Shape(nested if len(inner) == len(items) else [], inside, "(key, other)", "one")
        groups = [(key, one) for key, one in items if isinstance(one, (set, frozenset, list, tuple))]
        inside = f"for key, inner in store.{name}.items() for one in inner"
        members = [(key, one) for key, more in groups for one in more]
        is_wide = any(isinstance(one, tuple) for _, one in members)
        flat = [((key, *one) if isinstance(one, tuple) else (key, one), True) for key, one in members]
        group = Shape(flat, inside, "(key, *one)" if is_wide else "(key, one)", "True")
        yield group if len(groups) == len(items) else group._replace(entries=[])
    elif isinstance(value, list):
        rows = [(one, True) for one in value if isinstance(one, tuple)]
        yield Shape(rows if len(rows) == len(value) else [], f"for one in store.{name}", "tuple(one)", "True")


def matched(table: Table, shape: Shape) -> Matched | None:
    """How a table has the same data, if it has."""
    keys = [key for key, _ in shape.entries]
    widths = {len(key) for key in keys}
    if len(widths) != 1 or len({*map(repr, keys)}) != len(keys):
        return None
    width = widths.pop()
    if not 1 < width <= len(table.columns):
        return None
    for places in itertools.islice(_places(table, keys, width), _MOST_KEYS):
        columns = [table.columns[place] for place in places]
        by_key = {tuple(row[place] for place in places): row for row in table.rows}
        if len(by_key) != len(table.rows) or {*map(repr, by_key)} != {*map(repr, map(tuple, keys))}:
            continue
        if shape.value == "True":
            return Matched(columns, [], "True", "True")
        if found := parts_in(table, columns, [(by_key[tuple(key)], one) for key, one in shape.entries]):
            return Matched(columns, *found)
    return None


def _places(table: Table, keys: list[tuple[Any, ...]], width: int) -> Iterator[tuple[int, ...]]:
    """The columns that may be the parts of the keys, in their order."""
    columns = [sorted(repr(row[place]) for row in table.rows) for place in range(len(table.columns))]
    choices = [
        [place for place, values in enumerate(columns) if values == sorted(repr(key[at]) for key in keys)]
        for at in range(width)
    ]
    return (places for places in itertools.product(*choices) if len({*places}) == width)
