"""counter-in-python: a counter is read, increased in Python, and written back."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Counters(SmallStore):
    """Counters by name."""

    schema = (
        "CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, n INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def increase(self, name: str) -> int:
        rows = self.db.execute("SELECT n FROM counter WHERE name = ?", (name,)).fetchall()
        n = int(rows[0][0]) + 1 if rows else 1
        self.db.execute("INSERT OR REPLACE INTO counter VALUES (?, ?)", (name, n))
        return n


class _CountsAtOnce(_Counters):
    """Counters by name, increased by SQLite."""

    def increase(self, name: str) -> int:
        rows = self.db.execute(
            "INSERT INTO counter VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING n", (name,)
        ).fetchall()
        return int(rows[0][0])


_CALLS = (Action("increase", {"name": "a"}), Action("increase", {"name": "b"}), Action("increase", {"name": "a"}))
BUG = KnownBug(
    name="counter-in-python",
    source="Find issue 291",
    defect="two that count at once have counted one",
    checks=("not-serializable",),
    make=build(_Counters, _CALLS),
    sound=build(_CountsAtOnce, _CALLS),
    searches=("interleave",),
    budget=200,
)
