"""dead-letter-in-two-steps: a message goes to the dead letters in two commits."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Letters(SmallStore):
    """Messages, and those that were given up."""

    schema = (
        "CREATE TABLE IF NOT EXISTS letter (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS dead (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO letter VALUES (?)", (name,))

    def give_up(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO dead VALUES (?)", (name,))
        self.db.execute("DELETE FROM letter WHERE name = ?", (name,))


class _MovesAtOnce(_Letters):
    """Messages, and those that were given up: moved in one transaction."""

    def give_up(self, name: str) -> None:
        with self.transaction():
            super().give_up(name)


_CALLS = (Action("add", {"name": "a"}), Action("give_up", {"name": "a"}))
BUG = KnownBug(
    name="dead-letter-in-two-steps",
    source="GoWDK issue 566; Verath PR 105",
    defect="after a failure a message waits, and is among the dead",
    checks=("all-or-nothing",),
    make=build(_Letters, _CALLS),
    sound=build(_MovesAtOnce, _CALLS),
    searches=("sweep", "crash"),
    budget=1_000,
)
