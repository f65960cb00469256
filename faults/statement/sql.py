"""Classifies SQL statements by their first words: what a statement does to a transaction.

The first words are read past blanks, comments and empty statements, as SQLite's tokenizer would. SQL is not parsed:
whether a ``WITH`` writes is determined elsewhere, by asking SQLite.
"""

import re
from collections.abc import Iterator
from typing import Final

from tornpage.faults.sqlite_library import sqlite3

_BLANK = r"(?:[ \t\f\r\n\ufeff]|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*"
_SKIP: Final = re.compile(_BLANK, re.DOTALL)
_SKIP_EMPTY: Final = re.compile(rf"(?:{_BLANK};)*{_BLANK}", re.DOTALL)
_WORD: Final = re.compile(r"\w+")

_WRITERS: Final = frozenset(
    ["INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE", "VACUUM"]
)
_IMPLICIT_BEGIN: Final = ("INSERT", "UPDATE", "DELETE", "REPLACE")


def leading_words(sql: str, limit: int = 5) -> tuple[str, ...]:
    """The first words of a statement in upper case, at most `limit`."""
    words: list[str] = []
    skipped = _SKIP_EMPTY.match(sql)
    while skipped is not None and len(words) < limit:
        word = _WORD.match(sql, skipped.end())
        if word is None:
            break
        words.append(word.group().upper())
        skipped = _SKIP.match(sql, word.end())
    return tuple(words)


def transaction_kind(words: tuple[str, ...]) -> str:
    """``begin``, ``commit`` or ``rollback`` for a statement that controls a transaction, else ``statement``."""
    if words[:1] == ("BEGIN",):
        return "begin"
    if words[:1] in (("COMMIT",), ("END",)):
        return "commit"
    if words[:1] == ("ROLLBACK",) and "TO" not in words[1:4]:
        return "rollback"
    return "statement"


def begin_takes_locks(words: tuple[str, ...]) -> bool:
    """Whether this BEGIN takes a lock; a deferred one leaves that to the first statement."""
    return words[1:2] in (("IMMEDIATE",), ("EXCLUSIVE",))


def opens_implicitly(sql: str) -> bool:
    """Whether Python's legacy transaction control runs a BEGIN before this statement.

    Python skips only blanks and comments, and compares letters, not words (``is_dml`` in ``statement.c``).
    """
    skipped = _SKIP.match(sql)
    return skipped is not None and sql[skipped.end() : skipped.end() + 7].upper().startswith(_IMPLICIT_BEGIN)


def certainly_writes(words: tuple[str, ...]) -> bool:
    """Whether the first word alone says that the statement writes."""
    return bool(words) and words[0] in _WRITERS


def split_script(script: str) -> Iterator[str]:
    """The statements of a script, split where SQLite reports a complete one; the last may lack its semicolon."""
    start = position = 0
    while (position := script.find(";", position)) >= 0:
        position += 1
        if sqlite3.complete_statement(script[start:position]):
            yield script[start:position]
            start = position
    if script[start:].strip():
        yield script[start:]
