"""The tables of a store, read past it after the calls."""

import contextlib
import functools
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.faults.vfs.passed_by import is_database
from tornpage.scenarios.execution.generic_checks.open_connections import leaves_a_transaction
from tornpage.scenarios.execution.preflight.rules import LOCKED_OUT
from tornpage.scenarios.run.first_steps.left_out import LockedOutError

# The file's name that a store is given.
GIVEN: Final = "store.sqlite"
_KEEPS_TEXT: Final = re.compile(r"\bUSING\s+fts[345]\b(?!.*\bcontent\s*=)", re.IGNORECASE | re.DOTALL)
# Not every type of SQLite's affinity NUMERIC: a DATE is often a text.
_HIDDEN: Final = 1
_NUMERIC: Final = re.compile("INT|REAL|FLOA|DOUB|NUM|DEC", re.IGNORECASE)

Row = tuple[Any, ...]


class Table(msgspec.Struct, frozen=True):
    """A table after the calls: its columns that are the same at another time, their rows, and its key."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    keys: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    # The columns that are declared as numbers.
    numeric: tuple[str, ...] = ()
    # Whether several rows have the same key, and are one thing together.
    is_grouped: bool = False
    # The columns of which each has no value twice, by the schema.
    unique: tuple[str, ...] = ()


def _names(connection: sqlite3.Connection) -> list[str]:
    """Ordinary tables, and full-text ones that keep their text themselves.

    Not SQLite's own, not other virtual tables, not their shadow tables, and not full-text indexes on another table.
    """
    listed = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    virtual = tuple(f"{name}_" for name, sql in listed if sql.upper().startswith("CREATE VIRTUAL"))
    own = [name for name, sql in listed if not sql.upper().startswith("CREATE VIRTUAL") or _KEEPS_TEXT.search(sql)]
    return [name for name in own if not name.startswith(("sqlite_", *virtual))]


def _table(connection: sqlite3.Connection, name: str) -> Table:
    quoted = '"' + name.replace('"', '""') + '"'
    # Also those that SQLite generates, but not the hidden ones of a virtual table, which `*` leaves out.
    listed = connection.execute(f"PRAGMA table_xinfo({quoted})").fetchall()
    described = [(column, kind, place) for _, column, kind, _, _, place, hidden in listed if hidden != _HIDDEN]
    columns = tuple(column for column, _, _ in described)
    keys = tuple(column for column, _, place in described if place) or ("rowid",)
    rows = sorted(connection.execute(f"SELECT * FROM {quoted}").fetchall(), key=repr)  # noqa: S608 - its own tables
    numeric = tuple(column for column, kind, _ in described if _NUMERIC.search(kind))
    unique = (*(keys if len(keys) == 1 else ()), *_unique(connection, quoted))
    return Table(name, columns, tuple(tuple(row) for row in rows), keys, numeric=numeric, unique=unique)


def _unique(connection: sqlite3.Connection, quoted: str) -> list[str]:
    """The columns with a unique index of their own, over all rows."""
    found = []
    for _, index, is_unique, _, is_partial in connection.execute(f"PRAGMA index_list({quoted})").fetchall():
        columns = connection.execute("SELECT name FROM pragma_index_info(?)", (index,)).fetchall()
        if is_unique and not is_partial and len(columns) == 1:
            found += [name for (name,) in columns if name is not None]
    return found


def count(tables: Sequence[Table]) -> int:
    """The number of rows in all of them."""
    return sum(len(table.rows) for table in tables)


def changed(before: Sequence[Table], after: Sequence[Table]) -> dict[str, bool]:
    """The tables whose rows differ, by name, and whether it has exactly one row more and the others as they were."""
    was = {table.name: {*table.rows} for table in before}
    found = {}
    for table in after:
        old, new = was.get(table.name, set()), {*table.rows}
        if old != new:
            found[table.name] = old < new and len(new) == len(old) + 1
    return found


def grouped(table: Table) -> Table:
    """The table with one key for rows that belong together: those of one call, if each value of a column has several.

    The same table if there is no such column.
    """
    for index, column in enumerate(table.columns):
        times = Counter(row[index] for row in table.rows)
        if len(times) > 1 and min(times.values()) > 1:
            return msgspec.structs.replace(table, keys=(column,), is_grouped=True)
    return table


def lost_rows(before: Sequence[Table], after: Sequence[Table]) -> int:
    """How many rows that were there are no longer, as they were, in their table."""
    now = {table.name: {*table.rows} for table in after}
    return sum(len({*table.rows} - now.get(table.name, set())) for table in before)


def others(directory: Path, file: str) -> tuple[str, ...]:
    """Files below a directory that are not the database's own, by name."""
    own = {file, *(file + suffix for suffix in ("-wal", "-shm", "-journal"))}
    found = (str(one.relative_to(directory)) for one in sorted(directory.rglob("*")) if one.is_file())
    return tuple(name for name in found if name not in own)


def states_of(directory: Path, names: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Those of these files that are there, each with what changes when it is written or replaced."""
    stats = ((name, (directory / name).stat()) for name in names if (directory / name).is_file())
    return {name: (one.st_ino, one.st_size, one.st_mtime_ns) for name, one in stats}


def read(directory: Path) -> tuple[str, str, list[Table]]:
    """The database's name, its journal mode, and all tables with their rows; none without a file."""
    # The file that the store was given comes before others, such as an attached one.
    files = sorted(directory.rglob("*"), key=lambda one: (not one.name.startswith(GIVEN), one))
    path = next((one for one in files if is_database(one)), None)
    if path is None:
        return "", "delete", []
    try:
        return _read(path, str(path.relative_to(directory)))
    except sqlite3.OperationalError as error:
        is_locked = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        if not is_locked or leaves_a_transaction(directory):
            raise
        raise LockedOutError(
            f"{LOCKED_OUT}; for a first target, name a function that does so: --from MODULE:FUNCTION"
        ) from error


def _read(path: Path, name: str) -> tuple[str, str, list[Table]]:
    with contextlib.closing(faults.connect_unwatched(path, read_only=True)) as connection:
        # A text that is not UTF-8 is a matter of `rows`, which names it.
        connection.text_factory = functools.partial(str, encoding="utf-8", errors="surrogateescape")
        journal_mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        return name, journal_mode, [_table(connection, one) for one in _names(connection)]
