"""commit-on-another-connection: a COMMIT that failed is made again on a new connection, which has nothing to commit."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Retries(SmallStore):
    """Notes; a COMMIT that fails is retried."""

    schema = (
        "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__(path, clock)
        self.path = path

    def add(self, name: str) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute("INSERT OR IGNORE INTO note VALUES (?)", (name,))
            self.commit()
        except sqlite3.Error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def commit(self) -> None:
        """Commit; on a fresh connection where that fails."""
        try:
            self.db.execute("COMMIT")
        except sqlite3.Error:
            self.db.close()
            self.db = sqlite3.connect(self.path, isolation_level=None)
            self.db.commit()


class _Raises(_Retries):
    """Notes; a COMMIT that fails is an error."""

    def commit(self) -> None:
        """Commit."""
        self.db.execute("COMMIT")


_CALLS = (Action("add", {"name": "a"}), Action("add", {"name": "b"}))
BUG = KnownBug(
    name="commit-on-another-connection",
    source="ankimon PR 646",
    defect="a write is reported as done that is nowhere",
    checks=("acknowledged-is-durable",),
    make=build(_Retries, _CALLS),
    sound=build(_Raises, _CALLS),
    searches=("sweep",),
    budget=300,
)
