"""cache-not-refreshed: a cache takes the number of the newest commit after it has read the rows."""

from collections.abc import Callable
from pathlib import Path

from tornpage.scenarios.model.target import Action, View
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build, rows_of


class _Cached(SmallStore):
    """Notes with a cache over them, read anew when PRAGMA data_version says so."""

    schema = (
        "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__(path, clock)
        self.version = -1
        self.rows: View = {}

    def data_version(self) -> int:
        return int(self.db.execute("PRAGMA data_version").fetchall()[0][0])

    def refresh(self) -> None:
        if self.version != self.data_version():
            self.rows = rows_of(self.db)
            # What was committed between the rows and this is never read.
            self.version = self.data_version()

    def get(self, name: str) -> str | None:
        self.refresh()
        return next((row[1] for row in self.rows.values() if row[0] == name), None)

    def put(self, name: str, text: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text))
        self.version = -1

    def tick(self, name: str) -> None:
        super().tick(name)
        self.version = -1

    def view(self) -> View:
        self.refresh()
        return self.rows


class _TakesTheVersionFirst(_Cached):
    """Notes with a cache over them, never newer than what it says."""

    def refresh(self) -> None:
        version = self.data_version()
        if self.version != version:
            self.rows = rows_of(self.db)
            self.version = version


_CALLS = (
    Action("put", {"name": "a", "text": "1"}),
    Action("get", {"name": "a"}),
    Action("put", {"name": "a", "text": "2"}),
)
BUG = KnownBug(
    name="cache-not-refreshed",
    source="perch-hoplite issue 156",
    defect="a cache answers from before another process's commit, until somebody commits again",
    checks=("stale-view",),
    make=build(_Cached, _CALLS),
    sound=build(_TakesTheVersionFirst, _CALLS),
    searches=("interleave",),
    budget=300,
)
