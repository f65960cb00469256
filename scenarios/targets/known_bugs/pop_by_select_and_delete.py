"""pop-by-select-and-delete: an item is read, then deleted."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Queue(SmallStore):
    """Items, each for one consumer."""

    schema = (
        "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, value TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def push(self, value: str) -> None:
        self.db.execute("INSERT INTO item (value) VALUES (?)", (value,))

    def pop(self) -> str | None:
        row = self.db.execute("SELECT id, value FROM item ORDER BY id LIMIT 1").fetchone()
        if row is None:
            return None
        self.db.execute("DELETE FROM item WHERE id = ?", (row[0],))
        return str(row[1])


class _PopsAtOnce(_Queue):
    """Items, each for one consumer: read and deleted by one statement."""

    def pop(self) -> str | None:
        rows = self.db.execute(
            "DELETE FROM item WHERE id = (SELECT id FROM item ORDER BY id LIMIT 1) RETURNING value"
        ).fetchall()
        return str(rows[0][0]) if rows else None


_CALLS = (
    Action("push", {"value": "a"}), Action("push", {"value": "b"}), Action("push", {"value": "c"}),
    Action("pop"), Action("pop"),
)  # fmt: skip

BUG = KnownBug(
    name="pop-by-select-and-delete",
    source="persist-queue issue 19; openai-agents-python issue 4205",
    defect="two consumers are handed one item, and another is never seen",
    checks=(
        "handed-out-twice",
        "not-serializable",
    ),
    make=build(_Queue, _CALLS),
    sound=build(_PopsAtOnce, _CALLS),
    searches=("interleave",),
    budget=300,
)
