"""reaped-when-done: what looked stale is queued again, though it has ended since."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Jobs(SmallStore):
    """One job; one that runs for too long is queued again."""

    schema = (
        "CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, state TEXT, since INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def start(self) -> None:
        self.db.execute("INSERT OR IGNORE INTO job VALUES (1, 'running', ?)", (self.clock(),))

    def finish(self) -> bool:
        return self.db.execute("UPDATE job SET state = 'done' WHERE state = 'running'").rowcount == 1

    def reap(self) -> None:
        old = self.clock() - 1
        stale = self.db.execute("SELECT id FROM job WHERE state = 'running' AND since < ?", (old,)).fetchall()
        for (number,) in stale:
            self.db.execute("UPDATE job SET state = 'queued' WHERE id = ?", (number,))


class _LooksAgain(_Jobs):
    """One job; whether it runs for too long is asked by the statement that queues it again."""

    def reap(self) -> None:
        old = self.clock() - 1
        self.db.execute("UPDATE job SET state = 'queued' WHERE state = 'running' AND since < ?", (old,))


_CALLS = (Action("start"), Action("finish"), Action("reap"))
BUG = KnownBug(
    name="reaped-when-done",
    source="clevis PR 242",
    defect="a job that has succeeded is run again",
    checks=("not-serializable",),
    make=build(_Jobs, _CALLS),
    sound=build(_LooksAgain, _CALLS),
    searches=("interleave",),
    budget=300,
)
