"""commit-forgotten: a deletion is not committed."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Snapshots(SmallStore):
    """Snapshots by name."""

    schema = (
        "CREATE TABLE IF NOT EXISTS snapshot (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO snapshot VALUES (?)", (name,))

    def remove(self, name: str) -> None:
        if not self.db.in_transaction:
            self.db.execute("BEGIN")
        self.db.execute("DELETE FROM snapshot WHERE name = ?", (name,))

    def tick(self, name: str) -> None:
        super().tick(name)
        if self.db.in_transaction:
            self.db.execute("COMMIT")


class _Commits(_Snapshots):
    """Snapshots by name, whose removal is committed."""

    def remove(self, name: str) -> None:
        with self.transaction():
            self.db.execute("DELETE FROM snapshot WHERE name = ?", (name,))


_CALLS = (Action("add", {"name": "a"}), Action("remove", {"name": "a"}))
BUG = KnownBug(
    name="commit-forgotten",
    source="rotki PR 4291; mayim issue 40; DoorPi issue 165",
    defect="what was deleted is back after a restart, unless something else was written since",
    checks=("memory-equals-disk",),
    make=build(_Snapshots, _CALLS),
    sound=build(_Commits, _CALLS),
    searches=("sweep",),
    budget=300,
)
