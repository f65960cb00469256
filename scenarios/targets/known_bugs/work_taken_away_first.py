"""work-taken-away-first: a job is deleted before it is done."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Jobs(SmallStore):
    """Jobs, and what came of them."""

    schema = (
        "CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS result (name TEXT PRIMARY KEY, text TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO job VALUES (?)", (name,))

    def work(self, name: str) -> bool:
        if self.db.execute("DELETE FROM job WHERE name = ?", (name,)).rowcount == 0:
            return False
        self.db.execute("INSERT OR REPLACE INTO result VALUES (?, ?)", (name, name.upper()))
        return True


class _AcknowledgesLate(_Jobs):
    """Jobs, each taken away by the transaction that writes what came of it."""

    def work(self, name: str) -> bool:
        with self.transaction():
            return super().work(name)


_CALLS = (Action("add", {"name": "a"}), Action("add", {"name": "b"}), Action("work", {"name": "a"}))
BUG = KnownBug(
    name="work-taken-away-first",
    source="machinery issue 275; celery issue 14; bigcompany/resources issue 16",
    defect="a worker that dies takes its job with it",
    checks=("all-or-nothing",),
    make=build(_Jobs, _CALLS),
    sound=build(_AcknowledgesLate, _CALLS),
    searches=("sweep", "crash"),
    budget=1_000,
)
