"""The view in a program's tables, read by plain SQLite with the description's `rows`.

A database that its program has never opened successfully may have any part of its schema, so a missing table has no
rows; `lacks` names what is missing after a store has been opened, when the schema must be complete.
"""

from pathlib import Path
from typing import Any

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.target import TargetError, View
from tornpage.scenarios.targets.process.protocol import Description


def view_of(connection: sqlite3.Connection, name: str, description: Description, path: str) -> View:
    """The view from the rows on a connection to the database at `path` inside its directory; raises `TargetError`."""
    _attach_to(connection, description, path)
    view: dict[str, Any] = {}
    for query in description.rows:
        try:
            cursor = connection.execute(query)
        except sqlite3.OperationalError as error:
            if not _is_missing(error):
                raise
            continue
        columns = [column[0] for column in cursor.description or ()]
        if len(columns) < 2:
            raise TargetError(f"{name}: {query!r} has to select a key and at least one value")
        for key, *values in cursor:
            _require_fit(name, query, view, str(key), values)
            view[str(key)] = values[0] if len(values) == 1 else dict(zip(columns[1:], values, strict=True))
    return view


def lacks(connection: sqlite3.Connection, description: Description, path: str) -> str:
    """What is missing for the rows, such as "no such table: notes"; "" for nothing."""
    _attach_to(connection, description, path)
    for query in description.rows:
        try:
            connection.execute(f"EXPLAIN {query}").fetchall()
        except sqlite3.OperationalError as error:
            if not _is_missing(error):
                raise
            return str(error)
    return ""


def _attach_to(connection: sqlite3.Connection, description: Description, path: str) -> None:
    """Attach the other existing databases for the rows."""
    if not description.attached:
        return
    there = {name: file for _, name, file in connection.execute("PRAGMA database_list")}
    if not there["main"]:
        return
    directory = Path(there["main"]).parents[len(Path(path).parts) - 1]
    for name, other in description.attached.items():
        if name not in there and (directory / other).exists():
            connection.execute(f'ATTACH ? AS "{name}"', (str(directory / other),))


def _require_fit(name: str, query: str, view: View, key: str, values: list[Any]) -> None:
    if key in view:
        raise TargetError(f"{name}: {query!r} reads the key {key!r} a second time; a view has each key once")
    if any(isinstance(value, bytes) for value in values):
        raise TargetError(f"{name}: {query!r} reads bytes, which no view can hold: select hex(...) of them")


def _is_missing(error: sqlite3.OperationalError) -> bool:
    """Whether SQLite misses a table or a column, for which it has no code of its own."""
    return str(error).startswith(("no such table", "no such column"))
