"""SQLite's own check of a database, also of one whose schema needs functions or collations of its program.

``PRAGMA integrity_check`` evaluates the CHECK constraints and the expressions of indexes, and compares keys. If the
connection lacks a function or a collation that one of them names, the whole check fails with SQLITE_ERROR, and so says
nothing of the file (measured with SQLite 3.40 and 3.53). Then each table is checked by itself: those that need nothing
of the program completely, the others without their constraints and indexes as far as that can be done.

SQLite 3.40 says "NULL value in t.c" of each row of a WITHOUT ROWID table whose primary key is not its first column,
where there is no NULL at all (measured with 3.40.1; not with 3.53): such a line counts only if the column has a NULL.

Not covered: the keys of a table that are compared by a collation of the program.
"""

from typing import Final

from tornpage.faults.sqlite_library import sqlite3

_EVERY: Final = 1_000_000
_IS_NULL: Final = "NULL value in "
_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"


def problems_of(connection: sqlite3.Connection, most: int = 3, *, constraints: bool = True) -> list[str]:
    """What SQLite finds wrong in the main database of a connection, at most so many lines; empty if it is sound.

    Without `constraints` a row that breaks a CHECK is none. The connection ignores CHECK constraints afterwards then,
    or if it lacks something. Raises `sqlite3.DatabaseError` where the file is so damaged that a check can't run, or
    can't be read.
    """
    if not constraints:
        connection.execute("PRAGMA ignore_check_constraints = ON")
    try:
        found = _found(connection, f"PRAGMA integrity_check({most})")
    except sqlite3.OperationalError as error:
        if not _lacks_something(error):
            raise
    else:
        if _without_wrong_nulls(connection, found) == found:
            return found
        # What is wrong may come after the lines that are not true.
        return _without_wrong_nulls(connection, _found(connection, f"PRAGMA integrity_check({_EVERY})"))[:most]
    connection.execute("PRAGMA ignore_check_constraints = ON")
    return _found_in_each_table(connection)[:most]


def _found_in_each_table(connection: sqlite3.Connection) -> list[str]:
    found: list[str] = []
    for (name,) in connection.execute(_TABLES).fetchall():
        quoted = "'" + name.replace("'", "''") + "'"
        for check in ("integrity_check", "quick_check"):
            try:
                found += _without_wrong_nulls(connection, _found(connection, f"PRAGMA {check}({quoted})"))
            except sqlite3.OperationalError as error:
                if not _lacks_something(error):
                    raise
            else:
                break
    return found


def _found(connection: sqlite3.Connection, check: str) -> list[str]:
    rows = connection.execute(check).fetchall()
    return [] if rows == [("ok",)] else [str(row[0]) for row in rows]


def _without_wrong_nulls(connection: sqlite3.Connection, found: list[str]) -> list[str]:
    """The lines without those of a NULL in a column that has none."""
    wrong: set[str] = set()
    for line in {one for one in found if one.startswith(_IS_NULL)}:
        columns = _columns_named(connection, line.removeprefix(_IS_NULL))
        # SQLite takes IS NULL of a column that is declared NOT NULL for false, without looking.
        query = """SELECT 1 FROM "{}" WHERE typeof("{}") = 'null' LIMIT 1"""
        if columns and not any(connection.execute(query.format(*map(_quoted, one))).fetchone() for one in columns):
            wrong.add(line)
    return [line for line in found if line not in wrong]


def _columns_named(connection: sqlite3.Connection, name: str) -> list[tuple[str, str]]:
    """The tables and columns that ``table.column`` may mean."""
    query = "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.name || '.' || c.name = ?"
    return connection.execute(query, (name,)).fetchall()


def _quoted(name: str) -> str:
    return name.replace('"', '""')


def _lacks_something(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_ERROR
