"""number-by-maximum: the next number is the largest one and one more."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Events(SmallStore):
    """Events, numbered in each stream."""

    schema = (
        "CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, stream TEXT, number INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def append(self, stream: str) -> int:
        largest = "SELECT coalesce(max(number), 0) FROM event WHERE stream = ?"
        number = int(self.db.execute(largest, (stream,)).fetchone()[0]) + 1
        self.db.execute("INSERT INTO event (stream, number) VALUES (?, ?)", (stream, number))
        return number


class _NumbersInside(_Events):
    """Events, numbered in each stream under the lock that writes them."""

    def append(self, stream: str) -> int:
        with self.transaction():
            return super().append(stream)


_CALLS = (Action("append", {"stream": "a"}), Action("append", {"stream": "a"}), Action("append", {"stream": "b"}))
BUG = KnownBug(
    name="number-by-maximum",
    source="eventstore-ts-example issue 1; deer-flow PR 4077",
    defect="two events of a stream have one number",
    checks=(
        "not-serializable",
        "handed-out-twice",
    ),
    make=build(_Events, _CALLS),
    sound=build(_NumbersInside, _CALLS),
    searches=("interleave",),
    budget=300,
)
