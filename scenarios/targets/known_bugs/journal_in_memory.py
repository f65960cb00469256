"""journal-in-memory: the rollback journal is kept in memory while much is written."""

from typing import ClassVar

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Index(SmallStore):
    """Words, many of which are written at a time."""

    schema = (
        "CREATE TABLE IF NOT EXISTS word (id INTEGER PRIMARY KEY, text TEXT)",
        "CREATE INDEX IF NOT EXISTS words ON word (text)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )
    bulk: ClassVar[str] = "MEMORY"

    def index(self, many: int) -> None:
        self.db.execute(f"PRAGMA journal_mode = {self.bulk}").fetchall()
        with self.transaction():
            for number in range(many):
                self.db.execute("INSERT INTO word (text) VALUES (?)", (f"{number * 7919 % many:04}" * 20,))
        self.db.execute("PRAGMA journal_mode = WAL").fetchall()


class _Logged(_Index):
    """Words, many of which are written at a time, through the log."""

    bulk: ClassVar[str] = "WAL"


_CALLS = (Action("index", {"many": 60}), Action("index", {"many": 60}))
BUG = KnownBug(
    name="journal-in-memory",
    source="codebase-memory-mcp PR 68; birdnet-go issue 429; grr issue 472",
    defect="a crash in the middle leaves a damaged database",
    checks=(
        "integrity",
        "all-or-nothing",
        "acknowledged-is-durable",
        "failed-write-changed-nothing",
    ),
    make=build(_Index, _CALLS),
    sound=build(_Logged, _CALLS),
    searches=("sweep",),
    budget=300,
)
