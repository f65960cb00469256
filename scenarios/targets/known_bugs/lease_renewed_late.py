"""lease-renewed-late: a worker renews a lease that has run out, and that another one has taken since."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build

# Less than the harness's clock goes on from one step to the next.
_LEASE_MS = 30_000


class Leases(SmallStore):
    """One job that is leased."""

    schema = (
        "CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, state TEXT, owner TEXT, until INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self) -> None:
        """One job that waits."""
        self.db.execute("INSERT OR IGNORE INTO job VALUES (1, 'waiting', NULL, 0)")

    def take(self, worker: str) -> bool:
        """Lease it if it has no valid lease."""
        now = self.clock()
        return self.changed(
            "UPDATE job SET state = 'running', owner = ?, until = ? WHERE id = 1 AND state != 'done' AND until <= ?",
            (worker, now + _LEASE_MS, now),
        )

    def renew(self, worker: str) -> bool:
        """Lease it for longer, where it is the worker's."""
        if not self.is_owner(worker):
            return False
        return self.changed("UPDATE job SET owner = ?, until = ? WHERE id = 1", (worker, self.clock() + _LEASE_MS))

    def finish(self, worker: str) -> bool:
        """End it, where it is the worker's."""
        return self.changed("UPDATE job SET state = 'done' WHERE id = 1 AND state = 'running' AND owner = ?", (worker,))

    def is_owner(self, worker: str) -> bool:
        """Whether the worker was the last to lease it."""
        return bool(self.db.execute("SELECT 1 FROM job WHERE id = 1 AND owner = ?", (worker,)).fetchall())

    def changed(self, sql: str, arguments: tuple[object, ...]) -> bool:
        """Whether a statement has changed the job."""
        return self.db.execute(sql, arguments).rowcount == 1


class SoundLeases(Leases):
    """One job that is leased: whose it is stands in the statement that renews the lease."""

    def renew(self, worker: str) -> bool:
        """Lease it for longer, where it is the worker's."""
        until = self.clock() + _LEASE_MS
        return self.changed("UPDATE job SET until = ? WHERE id = 1 AND owner = ?", (until, worker))


CALLS = (
    Action("add"),
    Action("take", {"worker": "one"}),
    Action("renew", {"worker": "one"}),
    Action("take", {"worker": "two"}),
    Action("finish", {"worker": "two"}),
)
SOUND = build(SoundLeases, CALLS)
BUG = KnownBug(
    name="lease-renewed-late",
    source="django-ox issue 16",
    defect="a worker renews a lease that has run out, and takes the job from the one that has it now",
    checks=("not-serializable",),
    make=build(Leases, CALLS),
    sound=SOUND,
    searches=("interleave",),
    budget=300,
)
