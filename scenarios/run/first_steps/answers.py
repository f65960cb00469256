"""The data that a store exposes: attributes and methods that match a table, each as a line for view and rows."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tornpage.scenarios.run.first_steps.composite import matched, shapes_of
from tornpage.scenarios.run.first_steps.observed import Observed
from tornpage.scenarios.run.first_steps.parts import decoded, parts_in
from tornpage.scenarios.run.first_steps.tables import Table
from tornpage.scenarios.run.first_steps.values import is_plain, literal

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

_MOST_ANSWERS: Final = 4
_MOST_CHOICES: Final = 3
_MOST_TOGETHER: Final = 5_000


class Answer(msgspec.Struct, frozen=True):
    """A store's own data for a table: two lines of code, one for the store, one for the file."""

    table: Table
    view: str
    rows: str
    what: str
    source: str
    # What a new store holds already, which the view leaves out.
    defaults: Mapping[Any, Any] = {}
    # Whether it is a cache, over the rows that it has not read yet.
    is_over_rows: bool = False


def views(observed: Observed) -> Iterator[tuple[list[Answer], list[Table]]]:
    """Tables that the store exposes itself, and those that are read for it: most of its own data first.

    After views of all tables, those of one table each.
    """
    choices = list(itertools.islice(_own(observed), _MOST_CHOICES))
    for own, rest in choices:
        if own and rest:
            yield own, rest
        if own:
            yield own, []
    yield [], list(observed.tables)
    if len(observed.tables) > 1:
        yield from (([answer], []) for answer in choices[0][0])
        yield from (([], [table]) for table in observed.tables)


def _own(observed: Observed) -> Iterator[tuple[list[Answer], list[Table]]]:
    """Answers for as many tables as possible, and the tables without one; no data answers for two tables.

    Two tables may have the same values in a first run: then either may be what the data is for.
    """
    tables = observed.tables
    answers = [[*_answers(table, observed)[:_MOST_ANSWERS], None] for table in tables]
    together = itertools.islice(itertools.product(*answers), _MOST_TOGETHER)
    choices = [tuple(filter(None, choice)) for choice in together]
    apart = [choice for choice in choices if len({one.source for one in choice}) == len(choice)]
    for choice in sorted(apart, key=len, reverse=True):
        yield list(choice), [table for table in tables if table.name not in {one.table.name for one in choice}]


def _answers(table: Table, observed: Observed) -> list[Answer]:
    """What may answer for it, the likeliest first.

    A key column is an unlikely value: often it is a number that happens to be the row's number, too. An answer from
    before anything was overwritten is for a store that then changes only one of memory and file.
    """
    moments = [(table, observed.answers), *_before(table, observed)]
    found = (
        answer
        for unlikely in (False, True)
        for one, answers in moments
        for answer in _of(one, answers, observed.begun, unlikely=unlikely)
    )
    by_source: dict[str, Answer] = {}
    for answer in found:
        by_source.setdefault(answer.source, answer)
    return list(by_source.values())


def _before(table: Table, observed: Observed) -> Iterator[tuple[Table, Mapping[str, Any]]]:
    tables, answers = observed.earlier
    for one in tables:
        if one.name == table.name:
            places = [one.columns.index(column) for column in table.columns]
            rows = tuple(tuple(row[place] for place in places) for row in one.rows)
            yield msgspec.structs.replace(table, rows=rows), answers


def _of(table: Table, answers: Mapping[str, Any], begun: Mapping[str, Any], *, unlikely: bool) -> Iterator[Answer]:
    for name, value in answers.items():
        found = None
        if isinstance(value, dict) and value:
            defaults = {key: one for key, one in begun.get(name, {}).items() if is_plain((key, one))}
            # A table may have the defaults, too.
            found = (
                _pairs(table, name, value, defaults, unlikely=unlikely)
                or _pairs(table, name, value, {}, unlikely=unlikely)
                or _objects(table, name, value)
            )
        elif not isinstance(value, dict):
            found = _members(table, name, value)
        found = found or _composite(table, name, value)
        if found:
            yield found


def _pairs(
    table: Table, name: str, value: dict[Any, Any], defaults: Mapping[Any, Any], *, unlikely: bool
) -> Answer | None:
    """A mapping that has two columns of the table; `unlikely`: with one of the table's key for its values.

    The column may hold the values as JSON or pickled. `defaults` are in the mapping, and in no table.
    """
    items = [(key, one) for key, one in value.items() if key not in defaults or defaults[key] != one]
    for (key, keys), (data, values) in itertools.permutations(_columns(table), 2):
        if (data in table.keys) is not unlikely or not items:
            continue
        for way, stored in decoded(values):
            if _equal(items, list(zip(keys, stored, strict=True))):
                source = "store.items()" if name == "items()" else f"store.{name}.items()"
                read = way.format("value")
                new, new_there = (f" if DEFAULTS.get(key) != {one}" if defaults else "" for one in ("value", read))
                ending = f'key}}": {read} for key, value in'
                return Answer(
                    table,
                    f'{{f"{table.name}/{{key}}": value for key, value in {source}{new}}}',
                    _select(table, f"{quoted(key)}, {quoted(data)}", ending, new_there),
                    f"{'its items' if name == 'items()' else name}: {key} and {data} of {table.name}",
                    name,
                    defaults,
                )
    return None


def _objects(table: Table, name: str, value: dict[Any, Any]) -> Answer | None:
    """A mapping from one column of the table to objects, mappings or tuples that have others as their parts."""
    for key, keys in _columns(table):
        by_key = dict(zip(keys, table.rows, strict=True))
        if len(by_key) != len(value) or by_key.keys() != value.keys():
            continue
        if found := parts_in(table, [key], [(by_key[at], one) for at, one in value.items()]):
            shown, part, read = found
            source = "store.items()" if name == "items()" else f"store.{name}.items()"
            return Answer(
                table,
                f'{{f"{table.name}/{{key}}": {part} for key, one in {source}}}',
                _select(table, ", ".join(map(quoted, [key, *shown])), f'row[0]}}": {read} for row in'),
                f"{'its items' if name == 'items()' else name}: {key}, {', '.join(shown)} of {table.name}",
                name,
            )
    return None


def _composite(table: Table, name: str, value: Any) -> Answer | None:
    """Data whose keys are several columns of the table."""
    if name.endswith("()"):
        return None
    for shape in shapes_of(name, value):
        if found := matched(table, shape):
            columns, width = [*found.columns, *found.shown], len(found.columns)
            return Answer(
                table,
                f'{{f"{table.name}/{{{shape.key}}}": {found.value} {shape.source}}}',
                _select(table, ", ".join(map(quoted, columns)), f'row[:{width}]}}": {found.row} for row in'),
                f"{name}: {', '.join(columns)} of {table.name}",
                name,
            )
    return None


def _members(table: Table, name: str, value: Any) -> Answer | None:
    """A collection that has one column of the table, or some of its columns, each row once."""
    if not isinstance(value, list) or not value:
        return None
    for key, keys in _columns(table):
        # A call's answer is judged as a read, too; as a view it would show two rows of one value as one.
        if name.endswith("()") and key not in table.unique:
            continue
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


def _select(table: Table, columns: str, ending: str, condition: str = "") -> str:
    query = f"SELECT {columns} FROM {quoted(table.name)}"  # noqa: S608 - its own names, in a file to be read
    return f'{{f"{table.name}/{{{ending} connection.execute({literal(query)}){condition}}}'


def quoted(name: str) -> str:
    """A name as SQL takes it; quoted only if it needs it."""
    return name if name.isidentifier() and name.upper() not in _WORDS else '"' + name.replace('"', '""') + '"'
