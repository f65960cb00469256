"""SQLite's own check of a database, also of one whose schema needs functions or collations of its program.

``PRAGMA integrity_check`` evaluates the CHECK constraints and the expressions of indexes, and compares keys. If the
connection lacks a function or a collation that one of them names, the whole check fails with SQLITE_ERROR, and so says
nothing of the file (measured with SQLite 3.40 and 3.53). Then each table is checked by itself: those that need nothing
of the program completely, the others without their constraints and indexes as far as that can be done.

Not covered: the keys of a table that are compared by a collation of the program.
"""

from tornpage.faults.sqlite_library import sqlite3

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"


def problems_of(connection: sqlite3.Connection, most: int = 3, *, constraints: bool = True) -> list[str]:
    """What SQLite finds wrong in the main database of a connection, at most so many lines; empty if it is sound.

    Without `constraints` a row that breaks a CHECK is none. The connection ignores CHECK constraints afterwards then,
    or if it lacks something. Raises `sqlite3.DatabaseError` where the file is so damaged that a check can't run, or
    can't be read.
    """
    if not constraints:
        connection.execute("PRAGMA ignore_check_constraints = ON")
    try:
        return _found(connection, f"PRAGMA integrity_check({most})")
    except sqlite3.OperationalError as error:
        if not _lacks_something(error):
            raise
    connection.execute("PRAGMA ignore_check_constraints = ON")
    found: list[str] = []
    for (name,) in connection.execute(_TABLES).fetchall():
        quoted = "'" + name.replace("'", "''") + "'"
        for check in ("integrity_check", "quick_check"):
            try:
                found += _found(connection, f"PRAGMA {check}({quoted})")
            except sqlite3.OperationalError as error:
                if not _lacks_something(error):
                    raise
            else:
                break
    return found[:most]


def _found(connection: sqlite3.Connection, check: str) -> list[str]:
    rows = connection.execute(check).fetchall()
    return [] if rows == [("ok",)] else [str(row[0]) for row in rows]


def _lacks_something(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_ERROR
