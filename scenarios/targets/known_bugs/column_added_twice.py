"""column-added-twice: two processes that start together both find that a column is missing, and add it."""

from collections.abc import Callable
from pathlib import Path

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Runs(SmallStore):
    """Runs, whose table has got a column later."""

    schema = (
        "CREATE TABLE IF NOT EXISTS run (name TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__(path, clock)
        try:
            self._add_what_is_missing()
        except BaseException:
            self.db.close()
            raise

    def _add_what_is_missing(self) -> None:
        if "owner" not in [row[1] for row in self.db.execute("PRAGMA table_info(run)").fetchall()]:
            self.db.execute("ALTER TABLE run ADD COLUMN owner TEXT")

    def start(self, name: str, owner: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (name, owner))


class _LooksInside(_Runs):
    """Runs, whose column is looked for under the lock that adds it."""

    def _add_what_is_missing(self) -> None:
        with self.transaction():
            super()._add_what_is_missing()


_CALLS = (Action("start", {"name": "nightly", "owner": "ann"}), Action("start", {"name": "nightly", "owner": "bob"}))
BUG = KnownBug(
    name="column-added-twice",
    source="hermes-agent PR 21628; hermes-lcm PR 346; code_puppy PR 490",
    defect="of two processes that start together one fails",
    checks=("opens-together",),
    make=build(_Runs, _CALLS, ("processes",)),
    sound=build(_LooksInside, _CALLS, ("processes",)),
    searches=("interleave",),
    budget=400,
)
