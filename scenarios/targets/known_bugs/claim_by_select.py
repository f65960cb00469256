"""claim-by-select: a worker looks for a waiting job, then marks it as its own."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Jobs(SmallStore):
    """Jobs, each for one worker."""

    schema = (
        "CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, owner TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO job VALUES (?, NULL)", (name,))

    def claim(self, worker: str) -> str | None:
        row = self.db.execute("SELECT id FROM job WHERE owner IS NULL ORDER BY id LIMIT 1").fetchone()
        if row is None:
            return None
        self.db.execute("UPDATE job SET owner = ? WHERE id = ?", (worker, row[0]))
        return str(row[0])


class _ClaimsAtOnce(_Jobs):
    """Jobs, each for one worker: claimed by one statement."""

    def claim(self, worker: str) -> str | None:
        rows = self.db.execute(
            "UPDATE job SET owner = ? WHERE id ="
            " (SELECT id FROM job WHERE owner IS NULL ORDER BY id LIMIT 1) RETURNING id",
            (worker,),
        ).fetchall()
        return str(rows[0][0]) if rows else None


_CALLS = (
    Action("add", {"name": "a"}),
    Action("add", {"name": "b"}),
    Action("claim", {"worker": "one"}),
    Action("claim", {"worker": "two"}),
)
BUG = KnownBug(
    name="claim-by-select",
    source="linkid issue 397; alike: reinhardt-web 5889, codeigniter4/queue 86",
    defect="two workers run one job",
    checks=("handed-out-twice",),
    make=build(_Jobs, _CALLS),
    sound=build(_ClaimsAtOnce, _CALLS),
    searches=("interleave",),
    budget=200,
)
