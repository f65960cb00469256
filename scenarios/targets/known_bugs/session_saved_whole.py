"""session-saved-whole: a session is read, changed and saved as one text."""

import json

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Sessions(SmallStore):
    """Sessions, each a JSON document."""

    schema = (
        "CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, data TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def put(self, name: str, key: str, value: int) -> None:
        row = self.db.execute("SELECT data FROM session WHERE id = ?", (name,)).fetchone()
        data = json.loads(row[0]) if row is not None else {}
        text = json.dumps({**data, key: value}, sort_keys=True)
        self.db.execute("INSERT OR REPLACE INTO session VALUES (?, ?)", (name, text))


class _Locked(_Sessions):
    """Sessions, each a JSON document that is read and saved in one transaction."""

    def put(self, name: str, key: str, value: int) -> None:
        with self.transaction():
            super().put(name, key, value)


_CALLS = (
    Action("put", {"name": "s", "key": "user", "value": 1}),
    Action("put", {"name": "s", "key": "cart", "value": 2}),
    Action("put", {"name": "s", "key": "seen", "value": 3}),
)
BUG = KnownBug(
    name="session-saved-whole",
    source="fastify-session issue 237; aspnet/Session issue 72; flask-session issue 71",
    defect="of two requests at once one loses what it has put into the session",
    checks=("not-serializable",),
    make=build(_Sessions, _CALLS),
    sound=build(_Locked, _CALLS),
    searches=("interleave",),
    budget=300,
)
