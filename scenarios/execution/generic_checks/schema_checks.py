"""What SQLite itself can check of a file beside its pages: the foreign keys and the full-text indexes of its schema.

``PRAGMA integrity_check`` looks at neither (full-text tables only from SQLite 3.44 on, and then not at a table whose
content lies elsewhere). Both are rules that the store has written into the file itself, so they hold for every target:

- ``PRAGMA foreign_key_check``: SQLite enforces a key only on connections that have switched it on, and each has to;
- each fts3, fts4 and fts5 table's own ``integrity-check``, which compares the index with its content, an external
  content table's included.

Only what has been checked accuses: a key whose parent can't be looked up (no such table, no unique index there), a
tokenizer or a module that this connection does not know prove nothing, and are passed over.
"""

import re
from collections.abc import Iterator
from typing import Final

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging.checks import Violation

_FULL_TEXT: Final = re.compile(r"\bUSING\s+[\"'`\[]?(fts[345])\b", re.IGNORECASE)
_MOST_SHOWN: Final = 3
# Primary codes with which a table says that it is damaged; others say that it could not be looked at.
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT})


def require_foreign_keys(connection: sqlite3.Connection) -> None:
    """Raise `Violation` for rows whose foreign keys lead nowhere."""
    try:
        dangling = connection.execute("PRAGMA foreign_key_check").fetchmany(_MOST_SHOWN)
    except sqlite3.OperationalError:
        # A key without a unique index at its other end can't be checked, nor used where it is enforced.
        return
    if dangling:
        shown = "; ".join(
            f"row {rowid} of {table} refers to no row of {parent}" for table, rowid, parent, _ in dangling
        )
        raise Violation(
            "integrity",
            f"PRAGMA foreign_key_check: {shown}. The schema declares these keys, and SQLite holds only connections to "
            "them that have said PRAGMA foreign_keys = ON",
        )


def require_full_text(connection: sqlite3.Connection) -> None:
    """Raise `Violation` for a full-text index that is not what its content says; the file must be nobody else's."""
    for name, module in _full_text_tables(connection):
        quoted = '"' + name.replace('"', '""') + '"'
        # A rank asks fts5 to look at content that lies in another table, too.
        what = f"{quoted}({quoted}, rank) VALUES ('integrity-check', 1)"
        if module != "fts5":
            what = f"{quoted}({quoted}) VALUES ('integrity-check')"
        try:
            connection.execute(f"INSERT INTO {what}").close()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                raise Violation(
                    "integrity",
                    f"the full-text index {name} is not what its content says (its own integrity-check: {error})",
                ) from error


def _full_text_tables(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """The full-text tables, each with its module."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND rootpage = 0").fetchall()
    for name, sql in rows:
        if found := _FULL_TEXT.search(sql or ""):
            yield name, found[1].lower()
