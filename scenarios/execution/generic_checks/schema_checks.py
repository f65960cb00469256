"""SQLite's checks of a file beyond its pages: the foreign keys and the full-text indexes of its schema.

``PRAGMA integrity_check`` covers neither (full-text tables only from SQLite 3.44 on, and then not at a table whose
content is in another table). The store has declared both in the file itself, so they apply to every target:

- ``PRAGMA foreign_key_check``: SQLite enforces keys only on connections that switch it on, and each has to;
- each fts3, fts4 and fts5 table's own ``integrity-check``, which compares the index with its content, an external
  content table's included.

What can't be checked is skipped: a key whose parent can't be looked up (no such table, no unique index there), and a
tokenizer or a module that this connection does not have.
"""

import re
from collections.abc import Iterator
from typing import Final

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging.checks import Violation

_FULL_TEXT: Final = re.compile(r"\bUSING\s+[\"'`\[]?(fts[345])\b", re.IGNORECASE)
_MOST_SHOWN: Final = 3
# Primary codes with which a table reports damage; others report that it could not be read.
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT})


def require_foreign_keys(connection: sqlite3.Connection) -> None:
    """Raise `Violation` for rows whose foreign keys have no parent."""
    try:
        dangling = connection.execute("PRAGMA foreign_key_check").fetchmany(_MOST_SHOWN)
    except sqlite3.OperationalError:
        # A key without a unique index on its parent can't be checked, nor used where it is enforced.
        return
    if dangling:
        # The rows of a table WITHOUT ROWID are not told apart.
        shown = "; ".join(dict.fromkeys(
            f"{'a row' if rowid is None else f'row {rowid}'} of {table} refers to no row of {parent}"
            for table, rowid, parent, _ in dangling
        ))  # fmt: skip
        raise Violation(
            "integrity",
            f"PRAGMA foreign_key_check: {shown}. The schema declares these keys, and SQLite enforces them only on "
            "connections that have run PRAGMA foreign_keys = ON",
        )


def require_full_text(connection: sqlite3.Connection) -> None:
    """Raise `Violation` for a full-text index that does not match its content; no other connection may use the file."""
    for name, module in _full_text_tables(connection):
        quoted = '"' + name.replace('"', '""') + '"'
        # With a rank, fts5 also checks content in another table.
        what = f"{quoted}({quoted}, rank) VALUES ('integrity-check', 1)"
        if module != "fts5":
            what = f"{quoted}({quoted}) VALUES ('integrity-check')"
        try:
            connection.execute(f"INSERT INTO {what}").close()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                raise Violation(
                    "integrity",
                    f"the full-text index {name} does not match its content (its own integrity-check: {error})",
                ) from error


def _full_text_tables(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """The full-text tables, each with its module."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND rootpage = 0").fetchall()
    for name, sql in rows:
        if found := _FULL_TEXT.search(sql or ""):
            yield name, found[1].lower()
