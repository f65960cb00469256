"""What rows say of the arguments that led to them: a text may have to be a number, or a mapping.

Method. SQLite keeps a text in a column of numbers, and a store that writes its argument as JSON takes one, too: the
call works, and a later one that computes with the number, or changes a field, has no effect or fails. So the new rows
of a call are compared with its texts. The store is played again with other values, which are kept if all calls work
with them that worked before; a mapping only if more calls do.

Not covered: texts that are computed with before they are written, and arguments of types that are declared.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tornpage.scenarios.run.first_steps.tables import Table

NUMBER: Final = 1
MAPPING: Final = {"one": 1}

# By method and parameter, the value to try first.
Better = Mapping[tuple[str, str], Any]


def better_values(name: str, args: Mapping[str, Any], before: Sequence[Table], after: Sequence[Table]) -> Better:
    """For a call with these arguments that has changed the tables: better values for texts, if any."""
    texts = {value: (name, parameter) for parameter, value in args.items() if isinstance(value, str)}
    as_json = {json.dumps(value): place for value, place in texts.items()}
    found: dict[tuple[str, str], Any] = {}
    for value, is_number in _new_cells(before, after):
        if is_number and value in texts:
            found[texts[value]] = NUMBER
        elif value in as_json:
            found[as_json[value]] = MAPPING
    return found


def _new_cells(before: Sequence[Table], after: Sequence[Table]) -> Iterator[tuple[str, bool]]:
    """The texts of new rows, each with whether its column is declared as one of numbers."""
    was = {table.name: {*table.rows} for table in before}
    for table in after:
        for row in {*table.rows} - was.get(table.name, set()):
            for column, value in zip(table.columns, row, strict=True):
                if isinstance(value, str):
                    yield value, column in table.numeric


def choices_of(better: Better) -> Iterator[Better]:
    """What to try, the most first."""
    numbers = {place: value for place, value in better.items() if value == NUMBER}
    yield from (one for one in ((better,) if better == numbers else (better, numbers)) if one)


def is_better(choice: Better, before: set[str], after: set[str]) -> bool:
    """Whether a play with these values did what the one before did, by the names of calls with an effect."""
    return before < after or (before == after and MAPPING not in choice.values())
