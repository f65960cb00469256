"""cancelled-leaves-begin: who cancels a call leaves its transaction open, since CancelledError is no Exception."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tornpage.scenarios.model.target import Action, View
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build, rows_of


class _AsyncNotes(SmallStore):
    """Notes on an event loop; the connection has a thread of its own, as in aiosqlite."""

    schema = (
        "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )
    is_shared = True

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__(path, clock)
        self.loop = asyncio.new_event_loop()
        self.thread = ThreadPoolExecutor(1)
        # Without memory not even ROLLBACK works: then the next call makes up for it.
        self.is_stuck = False

    async def execute(self, sql: str, *arguments: object) -> None:
        await self.loop.run_in_executor(self.thread, lambda: self.db.execute(sql, arguments).fetchall())

    async def written(self, sql: str, *arguments: object) -> None:
        """A transaction of one statement."""
        await self.tidied()
        await self.execute("BEGIN IMMEDIATE")
        try:
            await self.execute(sql, *arguments)
            await self.execute("COMMIT")
        except Exception:  # A cancellation is none.
            await self.rolled_back()
            raise

    async def rolled_back(self) -> None:
        if self.db.in_transaction:
            self.is_stuck = True
            await self.execute("ROLLBACK")
        self.is_stuck = False

    async def tidied(self) -> None:
        if self.is_stuck:
            await self.rolled_back()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def put(self, name: str, text: str) -> None:
        self.run(self.written("INSERT OR REPLACE INTO note VALUES (?, ?)", name, text))

    def tick(self, name: str) -> None:
        self.run(self.written("INSERT OR REPLACE INTO tick VALUES (?, 1)", name))

    def view(self) -> View:
        self.run(self.tidied())
        # What was handed to the thread comes first.
        return self.thread.submit(rows_of, self.db).result()

    def close(self) -> None:
        self.thread.shutdown()
        self.loop.close()
        super().close()


class _BringsItToItsEnd(_AsyncNotes):
    """Notes on an event loop: what has begun is brought to its end, also where its caller stops waiting."""

    async def written(self, sql: str, *arguments: object) -> None:
        task = asyncio.ensure_future(super().written(sql, *arguments))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise


_CALLS = (Action("put", {"name": "a", "text": "1"}), Action("put", {"name": "b", "text": "2"}))
BUG = KnownBug(
    name="cancelled-leaves-begin",
    source="taOS pull request 2771; alike: chia-blockchain 21090, go-sqlite3 764",
    defect="a cancelled call leaves a transaction open: every other writer is told that the database is locked",
    checks=("memory-equals-disk", "still-usable-after-the-fault"),
    make=build(_AsyncNotes, _CALLS),
    sound=build(_BringsItToItsEnd, _CALLS),
    searches=("limits",),
    budget=500,
)
