"""cron-fired-twice: two schedulers look when a job ran last, and both enqueue it."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Schedule(SmallStore):
    """A job that is due once a minute."""

    schema = (
        "CREATE TABLE IF NOT EXISTS last (name TEXT PRIMARY KEY, at INTEGER)",
        "CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY, name TEXT, at INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def fire(self, name: str) -> bool:
        now = self.clock() // 60_000
        row = self.db.execute("SELECT at FROM last WHERE name = ?", (name,)).fetchone()
        if row is not None and row[0] >= now:
            return False
        self.db.execute("INSERT OR REPLACE INTO last VALUES (?, ?)", (name, now))
        self.db.execute("INSERT INTO run (name, at) VALUES (?, ?)", (name, now))
        return True


class _OneWins(_Schedule):
    """A job that is due once a minute: looked at and fired in one transaction."""

    def fire(self, name: str) -> bool:
        with self.transaction():
            return super().fire(name)


_CALLS = (Action("fire", {"name": "a"}), Action("fire", {"name": "a"}), Action("fire", {"name": "b"}))
BUG = KnownBug(
    name="cron-fired-twice",
    source="sidekiq-scheduler PR 104 and issue 156; node-cron issue 96",
    defect="each instance enqueues the job of the minute",
    checks=("not-serializable",),
    make=build(_Schedule, _CALLS),
    sound=build(_OneWins, _CALLS),
    searches=("interleave",),
    budget=300,
)
