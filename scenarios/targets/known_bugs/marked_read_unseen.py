"""marked-read-unseen: all that is unread is marked as read, also what came meanwhile."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Inbox(SmallStore):
    """Messages that are read once."""

    schema = (
        "CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, text TEXT, seen INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def send(self, text: str) -> None:
        self.db.execute("INSERT INTO message (text, seen) VALUES (?, 0)", (text,))

    def read(self) -> list[str]:
        found = [str(row[0]) for row in self.db.execute("SELECT text FROM message WHERE seen = 0 ORDER BY id")]
        self.db.execute("UPDATE message SET seen = 1 WHERE seen = 0")
        return found


class _MarksWhatItRead(_Inbox):
    """Messages that are read and marked in one transaction."""

    def read(self) -> list[str]:
        with self.transaction():
            return super().read()


_CALLS = (Action("send", {"text": "a"}), Action("send", {"text": "b"}), Action("read"), Action("send", {"text": "c"}))
BUG = KnownBug(
    name="marked-read-unseen",
    source="agmsg issue 373",
    defect="a message is marked as read that was never shown",
    checks=(
        "not-serializable",
        "handed-out-twice",
    ),
    make=build(_Inbox, _CALLS),
    sound=build(_MarksWhatItRead, _CALLS),
    searches=("interleave",),
    budget=300,
)
