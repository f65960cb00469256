"""shared-rollback: two threads on one connection, and the one rolls back half of what the other has done."""

import threading
from collections.abc import Callable
from pathlib import Path

from tornpage.scenarios.model.target import Action, Refused
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Accounts(SmallStore):
    """Accounts on one connection that all threads use."""

    schema = (
        "CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, amount INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )
    is_shared = True

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__(path, clock)
        # Python begins a transaction before a statement that writes, and any commit or rollback ends it.
        self.db.isolation_level = "DEFERRED"

    def pay_in(self, name: str, amount: int) -> None:
        with self.db:
            self.db.execute("INSERT OR IGNORE INTO account VALUES (?, 0)", (name,))
            self.db.execute("UPDATE account SET amount = amount + ? WHERE name = ?", (amount, name))

    def move(self, source: str, to: str, amount: int) -> None:
        with self.db:
            self.db.execute("UPDATE account SET amount = amount - ? WHERE name = ?", (amount, source))
            self.db.execute("UPDATE account SET amount = amount + ? WHERE name = ?", (amount, to))

    def pay_out(self, name: str, amount: int) -> None:
        with self.db:
            self.db.execute("UPDATE account SET amount = amount - ? WHERE name = ?", (amount, name))
            if self.db.execute("SELECT 1 FROM account WHERE amount < 0").fetchall():
                raise Refused(f"{name} has less than {amount}")

    def tick(self, name: str) -> None:
        with self.db:
            super().tick(name)


class _OneAtATime(_Accounts):
    """Accounts on one connection that threads use one at a time."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__(path, clock)
        self.lock = threading.Lock()

    def pay_in(self, name: str, amount: int) -> None:
        with self.lock:
            super().pay_in(name, amount)

    def move(self, source: str, to: str, amount: int) -> None:
        with self.lock:
            super().move(source, to, amount)

    def pay_out(self, name: str, amount: int) -> None:
        with self.lock:
            super().pay_out(name, amount)


_CALLS = (
    Action("pay_in", {"name": "a", "amount": 10}),
    Action("pay_in", {"name": "b", "amount": 10}),
    Action("move", {"source": "a", "to": "b", "amount": 5}),
    Action("pay_out", {"name": "b", "amount": 100}),
)
BUG = KnownBug(
    name="shared-rollback",
    source="reinhardt-web issue 5889; https://docs.python.org/3/library/sqlite3.html, check_same_thread",
    defect="of a transfer that was acknowledged one half is there: another thread has rolled back the other",
    # The other thread may also commit a half.
    checks=("not-serializable", "all-or-nothing"),
    make=build(_Accounts, _CALLS, ("shared",), frozenset({"pay_out"})),
    sound=build(_OneAtATime, _CALLS, ("shared",), frozenset({"pay_out"})),
    searches=("interleave",),
    budget=300,
)
