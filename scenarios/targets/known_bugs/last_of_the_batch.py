"""last-of-the-batch: which item ends a batch is found by counting what is left."""

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Batch(SmallStore):
    """Jobs of one batch; when none is left, what follows is queued."""

    schema = (
        "CREATE TABLE IF NOT EXISTS batch (id INTEGER PRIMARY KEY, pending INTEGER, ended INTEGER)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def add(self) -> None:
        self.db.execute("INSERT INTO batch VALUES (1, 1, 0) ON CONFLICT DO UPDATE SET pending = pending + 1")

    def finish(self) -> None:
        left = self.pending() - 1
        self.db.execute("UPDATE batch SET pending = ?", (left,))
        if left == 0:
            self.db.execute("UPDATE batch SET ended = ended + 1")

    def pending(self) -> int:
        """How many have not ended."""
        return int(self.db.execute("SELECT coalesce(max(pending), 0) FROM batch").fetchone()[0])


class _CountsInside(_Batch):
    """Jobs of one batch, counted in the transaction that ends one."""

    def finish(self) -> None:
        with self.transaction():
            super().finish()


_CALLS = (Action("add"), Action("add"), Action("finish"), Action("finish"))
BUG = KnownBug(
    name="last-of-the-batch",
    source="sidekiq issue 6852; resque-batched-job issue 4",
    defect="the callback of a batch never comes, or comes twice",
    checks=("not-serializable",),
    make=build(_Batch, _CALLS),
    sound=build(_CountsInside, _CALLS),
    searches=("interleave",),
    budget=300,
)
