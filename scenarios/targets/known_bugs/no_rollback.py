"""no-rollback: a transaction that failed stays open."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Journal(SmallStore):
    """Entries with a total, each written in a transaction."""

    schema = (
        "CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, amount INTEGER)",
        "CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY, amount INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self, amount: int) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.write(amount)
        self.db.execute("COMMIT")

    def write(self, amount: int) -> None:
        """The two changes."""
        self.db.execute("INSERT INTO entry (amount) VALUES (?)", (amount,))
        self.db.execute(
            "INSERT INTO total VALUES (1, ?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount", (amount,)
        )


class _RollsBack(_Journal):
    """Entries with a total, each written in a transaction that ends in any case."""

    def add(self, amount: int) -> None:
        with self.transaction():
            self.write(amount)


_CALLS = (Action("add", {"amount": 1}), Action("add", {"amount": 2}))
BUG = KnownBug(
    name="no-rollback",
    source="bearded-avenger issue 398",
    defect="after one failed write every other fails, too",
    checks=(
        "still-usable-after-the-fault",
        "memory-equals-disk",
    ),
    make=build(_Journal, _CALLS),
    sound=build(_RollsBack, _CALLS),
    searches=("sweep",),
    budget=300,
)
