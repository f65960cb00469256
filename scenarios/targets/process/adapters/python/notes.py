"""python notes.py [memory-first]."""

import sqlite3
import sys

from tornpage_adapter import Refused, Where, serve

MEMORY_FIRST = "memory-first" in sys.argv
DESCRIPTION = {
    "title": "notes in Python",
    "database": "notes.sqlite",
    "calls": [
        {"name": "put", "args": {"name": "milk", "text": "buy"}},
        {"name": "put", "args": {"name": "milk", "text": "bought"}},
        {"name": "remove", "args": {"name": "milk"}},
    ],
    "beat": {"name": "put", "args": {"name": "heartbeat", "text": "alive"}},
    "rows": ["SELECT name, text FROM notes"],
}


class Notes:
    """Notes in memory and in SQLite."""

    def __init__(self, where: Where) -> None:
        self.db = sqlite3.connect(f"{where.directory}/notes.sqlite", isolation_level=None, timeout=1)
        try:
            self.db.execute(f"PRAGMA journal_mode = {where.journal_mode}").fetchall()
            self.db.execute(f"PRAGMA synchronous = {where.synchronous}")
            self.db.execute("CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT)")
            self.notes = dict(self.db.execute("SELECT name, text FROM notes").fetchall())
        except BaseException:
            self.db.close()
            raise

    def call(self, action: str, args: dict[str, str], _now_ms: int) -> None:
        """Put a note, or remove it."""
        if action == "remove" and args["name"] not in self.notes:
            raise Refused("no such note")
        if MEMORY_FIRST:
            self.remember(action, **args)
        if action == "put":
            self.db.execute("INSERT OR REPLACE INTO notes VALUES (:name, :text)", args)
        else:
            self.db.execute("DELETE FROM notes WHERE name = :name", args)
        self.remember(action, **args)

    def remember(self, action: str, name: str, text: str = "") -> None:
        """Make the same change in memory."""
        if action == "put":
            self.notes[name] = text
        else:
            self.notes.pop(name, None)

    def view(self) -> dict[str, str]:
        """The store's state, from its memory."""
        return self.notes

    def close(self) -> None:
        """Close the file."""
        self.db.close()


serve(DESCRIPTION, Notes)
