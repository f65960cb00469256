"""written-behind: changes are kept in memory and written by the next one."""

from collections.abc import Callable
from pathlib import Path

from tornpage.scenarios.model.target import Action, View
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build, rows_of


class _Behind(SmallStore):
    """Pages; a change is written when the next one comes."""

    schema = (
        "CREATE TABLE IF NOT EXISTS page (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__(path, clock)
        self.waiting: list[str] = []

    def write(self, name: str) -> None:
        waiting, self.waiting = self.waiting, [name]
        for one in waiting:
            self.db.execute("INSERT OR IGNORE INTO page VALUES (?)", (one,))

    def view(self) -> View:
        """What is written, and what will be."""
        written = dict(rows_of(self.db))
        last = sum(key.startswith("page/") for key in written)
        return written | {f"page/{last + number}": [name] for number, name in enumerate(self.waiting, start=1)}


class _AtOnce(_Behind):
    """Pages; a change is written before it is acknowledged."""

    def write(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO page VALUES (?)", (name,))


_CALLS = (Action("write", {"name": "a"}), Action("write", {"name": "b"}))
BUG = KnownBug(
    name="written-behind",
    source="powersync sqlite_async.dart PR 77; LiteDB issue 981",
    defect="a transaction has returned, and its pages are nowhere but in memory",
    checks=(
        "acknowledged-is-durable",
        "memory-equals-disk",
    ),
    make=build(_Behind, _CALLS),
    sound=build(_AtOnce, _CALLS),
    searches=("sweep",),
    budget=300,
)
