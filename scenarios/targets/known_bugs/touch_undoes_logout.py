"""touch-undoes-logout: a request that only touches its session saves what it has read."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Logins(SmallStore):
    """Sessions with a user and the time of their last use."""

    schema = (
        "CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, user TEXT, used INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def login(self, name: str, user: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?)", (name, user, self.clock()))

    def logout(self, name: str) -> None:
        self.db.execute("UPDATE session SET user = NULL WHERE id = ?", (name,))

    def touch(self, name: str) -> None:
        row = self.db.execute("SELECT user FROM session WHERE id = ?", (name,)).fetchone()
        if row is not None:
            self.db.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?)", (name, row[0], self.clock()))


class _TouchesOnly(_Logins):
    """Sessions with a user and the time of their last use, which alone a touch changes."""

    def touch(self, name: str) -> None:
        self.db.execute("UPDATE session SET used = ? WHERE id = ?", (self.clock(), name))


_CALLS = (
    Action("login", {"name": "s", "user": "me"}),
    Action("logout", {"name": "s"}),
    Action("touch", {"name": "s"}),
)
BUG = KnownBug(
    name="touch-undoes-logout",
    source="session-file-store PR 55; redistore issue 2",
    defect="a request that ends late undoes the logout",
    checks=("not-serializable",),
    make=build(_Logins, _CALLS),
    sound=build(_TouchesOnly, _CALLS),
    searches=("interleave",),
    budget=300,
)
