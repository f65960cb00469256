"""The columns of a table that are the same in another run, at another time."""

from tornpage.scenarios.execution.preflight.other_clock import times_of_day_in
from tornpage.scenarios.model import ambient
from tornpage.scenarios.run.first_steps.left_out import NotLearned
from tornpage.scenarios.run.first_steps.tables import Row, Table


class DiffersError(NotLearned):
    """Another run makes other keys."""


def stable(one: Table, other: Table) -> Table:
    """The table without the columns that another time or another run changes."""
    kept = [
        index
        for index, _ in enumerate(one.columns)
        if [row[index] for row in one.rows] == [row[index] for row in other.rows] and not _is_now(one.rows, index)
    ]
    left = tuple(name for index, name in enumerate(one.columns) if index not in kept)
    if moving := [name for name in one.keys if name in left]:
        more = "" if ambient.is_available() else "; or pip install 'tornpage[deterministic]', which replaces it"
        raise DiffersError(
            f"the key {moving[0]} of {one.name} differs on each run; pass it as an argument of the call{more}"
        )
    rows = tuple(tuple(row[index] for index in kept) for row in one.rows)
    return Table(one.name, tuple(one.columns[index] for index in kept), rows, one.keys, left)


def _is_now(rows: tuple[Row, ...], index: int) -> bool:
    return any(True for _ in times_of_day_in({str(number): row[index] for number, row in enumerate(rows)}, ""))
