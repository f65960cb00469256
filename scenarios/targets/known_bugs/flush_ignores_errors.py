"""flush-ignores-errors: what could not be written is thrown away."""

import contextlib
import sqlite3

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Cache(SmallStore):
    """Attributes, written by a flush whose errors are not seen."""

    schema = (
        "CREATE TABLE IF NOT EXISTS attribute (name TEXT PRIMARY KEY, value TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def put(self, name: str, value: str) -> None:
        with contextlib.suppress(sqlite3.Error), self.transaction():
            self.db.execute("INSERT OR REPLACE INTO attribute VALUES (?, ?)", (name, value))


class _Says(_Cache):
    """Attributes, written by a flush that fails aloud."""

    def put(self, name: str, value: str) -> None:
        with self.transaction():
            self.db.execute("INSERT OR REPLACE INTO attribute VALUES (?, ?)", (name, value))


_CALLS = (Action("put", {"name": "a", "value": "1"}), Action("put", {"name": "a", "value": "2"}))
BUG = KnownBug(
    name="flush-ignores-errors",
    source="tinymux issue 1044",
    defect="a full disk loses what was acknowledged",
    checks=("acknowledged-is-durable",),
    make=build(_Cache, _CALLS),
    sound=build(_Says, _CALLS),
    searches=("sweep",),
    budget=300,
)
