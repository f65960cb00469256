"""The data that a store exposes: attributes and methods that match a table, each as a line for view and rows."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tornpage.scenarios.run.first_steps.observed import Observed
from tornpage.scenarios.run.first_steps.tables import Table
from tornpage.scenarios.run.first_steps.values import literal

# SQL keywords that are also used as names of tables and columns.
_WORDS: Final = frozenset(
    (
        "GROUP",
        "ORDER",
        "INDEX",
        "VALUES",
        "TABLE",
        "FROM",
        "WHERE",
        "TO",
        "LIMIT",
        "CHECK",
        "DEFAULT",
        "REFERENCES",
        "SET",
    )
)


class Answer(msgspec.Struct, frozen=True):
    """A store's own data for a table: two lines of code, one for the store, one for the file."""

    table: Table
    view: str
    rows: str
    what: str
    source: str


def views(observed: Observed) -> Iterator[tuple[list[Answer], list[Table]]]:
    """Tables that the store exposes itself, and those that are read for it: most of its own data first.

    After views of all tables, those of one table each.
    """
    own = [answer for table in observed.tables if (answer := _best(table, observed))]
    rest = [table for table in observed.tables if table not in [answer.table for answer in own]]
    if own and rest:
        yield own, rest
    if own:
        yield own, []
    yield [], list(observed.tables)
    if len(observed.tables) > 1:
        yield from (([answer], []) for answer in own)
        yield from (([], [table]) for table in observed.tables)


def _best(table: Table, observed: Observed) -> Answer | None:
    """Its likeliest answer.

    A key column is an unlikely value: often it is a number that happens to be the row's number, too. An answer from
    before anything was overwritten is for a store that then changes only one of memory and file.
    """
    moments = [(table, observed.answers), *_before(table, observed)]
    found = (_answer(one, answers, unlikely=unlikely) for unlikely in (False, True) for one, answers in moments)
    return next(filter(None, found), None)


def _before(table: Table, observed: Observed) -> Iterator[tuple[Table, Mapping[str, Any]]]:
    tables, answers = observed.earlier
    for one in tables:
        if one.name == table.name:
            places = [one.columns.index(column) for column in table.columns]
            rows = tuple(tuple(row[place] for place in places) for row in one.rows)
            yield msgspec.structs.replace(table, rows=rows), answers


def _answer(table: Table, answers: Mapping[str, Any], *, unlikely: bool) -> Answer | None:
    for name, value in answers.items():
        is_mapping = isinstance(value, dict)
        found = _pairs(table, name, value, unlikely=unlikely) if is_mapping else _members(table, name, value)
        if found:
            return found
    return None


def _pairs(table: Table, name: str, value: dict[Any, Any], *, unlikely: bool) -> Answer | None:
    """A mapping that has two columns of the table; `unlikely`: with one of the table's key for its values."""
    for (key, keys), (data, values) in itertools.permutations(_columns(table), 2):
        if (data in table.keys) is not unlikely or not value:
            continue
        if _equal(list(value.items()), list(zip(keys, values, strict=True))):
            source = "store.items()" if name == "items()" else f"store.{name}.items()"
            return Answer(
                table,
                f'{{f"{table.name}/{{key}}": value for key, value in {source}}}',
                _select(table, f"{quoted(key)}, {quoted(data)}", 'key}": value for key, value in'),
                f"{'its items' if name == 'items()' else name}: {key} and {data} of {table.name}",
                name,
            )
    return None


def _members(table: Table, name: str, value: Any) -> Answer | None:
    """A collection that has one column of the table, or some of its columns, each row once."""
    if not isinstance(value, list) or not value:
        return None
    for key, keys in _columns(table):
        if len(set(keys)) == len(keys) and _equal(value, keys):
            view = f'{{f"{table.name}/{{key}}": True for key in store.{name}}}'
            return Answer(
                table,
                view,
                _select(table, quoted(key), 'key}": True for (key,) in'),
                f"{name}: {key} of {table.name}",
                name,
            )
    if all(isinstance(one, tuple) and not hasattr(one, "keys") for one in value) and _equal(value, list(table.rows)):
        view = f'{{f"{table.name}/{{row[0]}}": list(row) for row in store.{name}}}'
        listed = ", ".join(map(quoted, table.columns))
        return Answer(
            table, view, _select(table, listed, 'row[0]}": list(row) for row in'), f"{name}: {table.name}", name
        )
    return None


def _columns(table: Table) -> list[tuple[str, list[Any]]]:
    return [(name, [row[index] for row in table.rows]) for index, name in enumerate(table.columns)]


def _equal(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and sorted(map(repr, one)) == sorted(map(repr, other))


def _select(table: Table, columns: str, ending: str) -> str:
    query = f"SELECT {columns} FROM {quoted(table.name)}"  # noqa: S608 - its own names, in a file to be read
    return f'{{f"{table.name}/{{{ending} connection.execute({literal(query)})}}'


def quoted(name: str) -> str:
    """A name as SQL takes it; quoted only if it needs it."""
    return name if name.isidentifier() and name.upper() not in _WORDS else '"' + name.replace('"', '""') + '"'
