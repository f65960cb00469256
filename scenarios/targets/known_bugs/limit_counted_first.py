"""limit-counted-first: two workers see the same room, and both take a job."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Jobs(SmallStore):
    """Jobs, of which one may run at a time."""

    schema = (
        "CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, state TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO job VALUES (?, 'waiting')", (name,))

    def take(self, name: str) -> bool:
        if self.running():
            return False
        return self.db.execute("UPDATE job SET state = 'running' WHERE id = ?", (name,)).rowcount == 1

    def running(self) -> int:
        """How many run now."""
        return int(self.db.execute("SELECT count(*) FROM job WHERE state = 'running'").fetchone()[0])


class _CountsInside(_Jobs):
    """Jobs, of which one may run at a time: counted and taken in one transaction."""

    def take(self, name: str) -> bool:
        with self.transaction():
            return super().take(name)


_CALLS = (
    Action("add", {"name": "a"}),
    Action("add", {"name": "b"}),
    Action("take", {"name": "a"}),
    Action("take", {"name": "b"}),
)
BUG = KnownBug(
    name="limit-counted-first",
    source="windmill issue 2216; pgqueuer issue 761",
    defect="a limit of one job at a time lets two run",
    checks=("not-serializable",),
    make=build(_Jobs, _CALLS),
    sound=build(_CountsInside, _CALLS),
    searches=("interleave",),
    budget=300,
)
