"""The columns of a table that are the same in another run, at another time."""

from collections.abc import Collection

from tornpage.scenarios.execution.preflight.other_clock import times_of_day_in
from tornpage.scenarios.model import ambient
from tornpage.scenarios.run.first_steps.left_out import WRITE_BEHIND, NotLearned
from tornpage.scenarios.run.first_steps.tables import Row, Table


class DiffersError(NotLearned):
    """Another run makes other keys."""


def stable(one: Table, other: Table, moving: Collection[tuple[str, str]] = ()) -> Table:
    """The table without the columns that another time or another run changes.

    `moving` are columns, each with its table, that have held the present time before.
    """
    kept = [
        index
        for index, name in enumerate(one.columns)
        if [row[index] for row in one.rows] == [row[index] for row in other.rows] and (one.name, name) not in moving
    ]
    left = tuple(name for index, name in enumerate(one.columns) if index not in kept)
    keys = [name for name in one.keys if name in left]
    if keys and len(one.rows) != len(other.rows):
        raise DiffersError(
            f"the same calls, made again, leave {len(other.rows)} rows in {one.name}, not {len(one.rows)}; if one of "
            f"them writes what others have left, {WRITE_BEHIND}"
        )
    if keys:
        more = "" if ambient.is_available() else "; or pip install 'tornpage[deterministic]', which replaces it"
        raise DiffersError(
            f"the key {keys[0]} of {one.name} differs on each run; pass it as an argument of the call{more}"
        )
    rows = tuple(tuple(row[index] for index in kept) for row in one.rows)
    columns = tuple(one.columns[index] for index in kept)
    return Table(one.name, columns, rows, one.keys, left, unique=one.unique)


def with_the_time(table: Table) -> list[str]:
    """The columns of a table in which a row has the present time."""
    return [name for index, name in enumerate(table.columns) if _is_now(table.rows, index)]


def _is_now(rows: tuple[Row, ...], index: int) -> bool:
    return any(True for _ in times_of_day_in({str(number): row[index] for number, row in enumerate(rows)}, ""))
