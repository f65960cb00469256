"""A small store that is right, and one that tells success of what failed."""

import sqlite3
from pathlib import Path


class Store:
    """Writes first; each call is one transaction."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS t(x PRIMARY KEY)")

    def add(self, x: int) -> None:
        self.db.execute("INSERT INTO t VALUES(?)", (x,))

    def all(self) -> list[int]:
        return [x for (x,) in self.db.execute("SELECT x FROM t ORDER BY x")]

    def close(self) -> None:
        self.db.close()


class Hides(Store):
    """Says nothing of a write that failed."""

    def add(self, x: int) -> None:
        try:
            super().add(x)
        except sqlite3.Error:
            return
