"""blob-read-outside: a blob of JSON is read before the transaction that writes it back."""

import json

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Settings(SmallStore):
    """Settings in one blob of JSON."""

    schema = (
        "CREATE TABLE IF NOT EXISTS settings (id INTEGER PRIMARY KEY, blob TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def put(self, name: str, value: int) -> None:
        settings = self.read()
        with self.transaction():
            self.write(settings | {name: value})

    def read(self) -> dict[str, int]:
        rows = self.db.execute("SELECT blob FROM settings").fetchall()
        return dict(json.loads(rows[0][0])) if rows else {}

    def write(self, settings: dict[str, int]) -> None:
        self.db.execute("INSERT OR REPLACE INTO settings VALUES (1, ?)", (json.dumps(settings, sort_keys=True),))


class _ReadsInside(_Settings):
    """Settings in one blob of JSON, read and written in one transaction."""

    def put(self, name: str, value: int) -> None:
        with self.transaction():
            self.write(self.read() | {name: value})


_CALLS = (
    Action("put", {"name": "a", "value": 1}),
    Action("put", {"name": "b", "value": 2}),
    Action("put", {"name": "a", "value": 3}),
)
BUG = KnownBug(
    name="blob-read-outside",
    source="qdrant-loader issue 363; alike: Find 291",
    defect="of two settings that are changed at once, one is the old one again",
    checks=("not-serializable",),
    make=build(_Settings, _CALLS),
    sound=build(_ReadsInside, _CALLS),
    searches=("interleave",),
    budget=200,
)
