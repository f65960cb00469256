"""receipt-after-the-delete: a record is deleted before its receipt is written."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Outbox(SmallStore):
    """Messages to send, and receipts of what was."""

    schema = (
        "CREATE TABLE IF NOT EXISTS waiting (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS receipt (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO waiting VALUES (?)", (name,))

    def sent(self, name: str) -> None:
        self.db.execute("DELETE FROM waiting WHERE name = ?", (name,))
        self.db.execute("INSERT OR IGNORE INTO receipt VALUES (?)", (name,))


class _OneCommit(_Outbox):
    """Messages to send, and receipts of what was, written in one transaction."""

    def sent(self, name: str) -> None:
        with self.transaction():
            super().sent(name)


_CALLS = (Action("add", {"name": "a"}), Action("sent", {"name": "a"}))
BUG = KnownBug(
    name="receipt-after-the-delete",
    source="romp PR 1071",
    defect="a crash between the two loses all trace of a message",
    checks=(
        "all-or-nothing",
        "acknowledged-is-durable",
    ),
    make=build(_Outbox, _CALLS),
    sound=build(_OneCommit, _CALLS),
    searches=("sweep", "crash"),
    budget=1_000,
)
