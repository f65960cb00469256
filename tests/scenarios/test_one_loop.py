"""Two calls of one asynchronous store, as two tasks of its event loop."""

import asyncio
import linecache
import re
import sqlite3
import threading
import uuid
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, awaited, faults
from tornpage.scenarios.execution.call_timeout import patience
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.execution.finding.trace import trace_of
from tornpage.scenarios.execution.interleave.schedule import hops_in_words
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Interleave, Scenario
from tornpage.scenarios.model.target import LoopInUseError
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.reproduce.replay_file import read, write
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import


class Blocks:
    """Counts, by a connection of the loop's own thread. What it has read may be old when it writes."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS item (name TEXT PRIMARY KEY, n INTEGER)")
        self.lock = asyncio.Lock()

    async def add(self, name: str) -> int:
        row = self.db.execute("SELECT n FROM item WHERE name = ?", (name,)).fetchone() or (0,)
        await asyncio.sleep(0)
        self.db.execute("INSERT OR REPLACE INTO item VALUES (?, ?)", (name, row[0] + 1))
        return int(row[0]) + 1

    async def beat(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO item VALUES (?, 0)", (name,))

    async def all(self) -> dict[str, Any]:
        return dict(self.db.execute("SELECT name, n FROM item").fetchall())

    async def close(self) -> None:
        self.db.close()


class BlocksUnderALock(Blocks):
    """Sound."""

    async def add(self, name: str) -> int:
        async with self.lock:
            return await super().add(name)


class Pairs:
    """Two rows in one transaction, on a connection with a thread of its own: a COMMIT commits half of another call."""

    db: aiosqlite.Connection

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = asyncio.Lock()

    async def connect(self) -> None:
        self.db = await aiosqlite.connect(self.path)
        try:
            await self.db.execute("CREATE TABLE IF NOT EXISTS item (name TEXT PRIMARY KEY, n INTEGER)")
            await self.db.commit()
        except BaseException:
            await self.db.close()
            raise

    async def add(self, name: str) -> None:
        await self.db.execute("INSERT OR REPLACE INTO item VALUES (?, 1)", (name,))
        await self.db.execute("INSERT OR REPLACE INTO item VALUES (?, 2)", (f"{name}/copy",))
        await self.db.commit()

    async def beat(self, name: str) -> None:
        async with self.lock:
            await self.db.execute("INSERT OR IGNORE INTO item VALUES (?, 0)", (name,))
            await self.db.commit()

    async def all(self) -> dict[str, Any]:
        return dict(await self.db.execute_fetchall("SELECT name, n FROM item"))  # type: ignore[arg-type]

    async def close(self) -> None:
        await self.db.close()


class PairsUnderALock(Pairs):
    """Sound, with a task of its own for each call."""

    async def add(self, name: str) -> None:
        async with self.lock:
            await asyncio.gather(super().add(name))


class Hidden:
    """An object around what `awaited` returned."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class HoldsALock(Blocks):
    """It holds a lock of threads across an await: the other task waits for it on the loop's own thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.guard = threading.Lock()

    async def add(self, name: str) -> int:
        with self.guard:
            return await super().add(name)


class WaitsBefore(HoldsALock):
    """It waits for the lock outside the loop, which has to run on for the other one."""

    def add(self, name: str) -> Any:
        self.guard.acquire()
        return self.added(name)

    async def added(self, name: str) -> int:
        try:
            return await Blocks.add(self, name)
        finally:
            self.guard.release()


class ItemsTarget(SimpleTarget):
    title = "items"
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("add", {"name": "a"}), Action("add", {"name": "b"}))
    beat = Action("beat", {"name": "heartbeat"})

    def __init__(self, kind: Any, *openings: str, callers: Any = "shared", is_hidden: bool = False) -> None:
        super().__init__()
        self.kind, self.openings, self.callers, self.is_hidden = kind, openings, (callers,), is_hidden
        self.made: list[Any] = []

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Any:
        self.made.append(store := awaited(self.kind(path), *self.openings))
        return Hidden(store) if self.is_hidden else store

    def view(self, store: Any) -> dict[str, Any]:
        return dict(store.all())

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return dict(connection.execute("SELECT name, n FROM item").fetchall())


class Stamps(BlocksUnderALock):
    """Sound, with a random value in each row, which two tasks draw in turns."""

    async def add(self, name: str) -> int:
        async with self.lock:
            await asyncio.sleep(0)
            self.db.execute("INSERT OR REPLACE INTO item VALUES (?, ?)", (name, uuid.uuid4().hex))
        return 0


class Drawn(ItemsTarget):
    deterministic = True


BLOCKS, PAIRS = ItemsTarget(Blocks), ItemsTarget(Pairs, "connect")
IN_PROCESSES = ItemsTarget(PairsUnderALock, "connect", callers="processes")


def interleave(target: Any, schedules: int | None = 24) -> Recorder:
    return campaign.run(target, Plan(("interleave",), Profile("test", 1, None, 0, 0, schedules=schedules), report=None))


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("BLOCKS", "not-serializable", "the file has"),
        ("PAIRS", "all-or-nothing", "a part of that was committed with it"),
    ],
)
def test_what_another_task_does_between_two_awaits_is_found(name: str, code: str, says: str, tmp_path: Path) -> None:
    finding = interleave(target := find_or_import(f"{__name__}:{name}")).findings[0].finding
    step = finding.scenario.steps[-1]
    assert isinstance(step, Interleave)
    assert (finding.code, step.callers) == (code, "shared")
    assert says in finding.message
    file, _, line = trace_of(finding.scenario, target, tmp_path / "where").where.rpartition(":")
    assert "await " in linecache.getline(file, int(line))
    with faults.install():
        again, _ = play(read(write(finding, tmp_path, 0)).scenario, target, tmp_path / "again")
    assert again is not None
    assert again.message == finding.message


@pytest.mark.parametrize(
    ("target", "ways"),
    [
        (ItemsTarget(BlocksUnderALock), {"once"}),
        (ItemsTarget(PairsUnderALock, "connect"), {"once", "twice"}),
        (Drawn(Stamps), {"once"}),
    ],
)
def test_tasks_that_take_a_lock_are_not_accused(target: ItemsTarget, ways: set[str]) -> None:
    recorder = interleave(target)
    assert not recorder.findings
    assert not recorder.vacuous
    assert {series.effect for series in recorder.tallies} >= ways


def test_both_stand_at_an_await_of_their_own(tmp_path: Path) -> None:
    step = Interleave(*ItemsTarget.calls, switch=1, back=1, callers="shared")
    with faults.install(), Executor(BLOCKS, ItemsTarget.configurations[0], tmp_path) as executor:
        executor.do(step)
        words = hops_in_words(executor.hops, step)
    stands = "stopped before switch point 1 (await), at test_one_loop.py:"
    assert [(caller, how_far.startswith(stands)) for caller, _, how_far in words] == [
        ("A", True),
        ("B", True),
        ("A", False),
        ("B", False),
    ]


@pytest.mark.parametrize(("kind", "line"), [(HoldsALock, "with self.guard:"), (WaitsBefore, "self.guard.acquire()")])
@pytest.mark.filterwarnings("ignore:coroutine 'WaitsBefore.added' was never awaited")
def test_a_task_that_keeps_the_loop_to_itself_is_stopped(kind: type[Blocks], line: str, tmp_path: Path) -> None:
    add = Action("add", {"name": "a"})
    step = Interleave(add, add, switch=1, callers="shared")
    scenario = Scenario("items", Configuration("delete", "FULL"), (step,))
    with patience(1.0), faults.install():
        found, _ = play(scenario, ItemsTarget(kind), tmp_path)
    assert found is not None
    assert found.code == "deadlock"
    says = rf"B keeps the event loop to itself: B at test_one_loop.py:\d+: {re.escape(line)}"
    assert re.fullmatch(says, found.message)
    for left in [one for one in threading.enumerate() if one.name == "call B"]:
        # It has its lock, or will in a moment.
        left.join(20)
        assert not left.is_alive()


def test_a_store_that_hides_its_loop_is_refused_and_not_accused() -> None:
    target = ItemsTarget(Pairs, "connect", is_hidden=True)
    with pytest.raises(LoopInUseError, match="let `make` return what `awaited` returns"):
        interleave(target)
    # Its loop was running when the search gave up.
    (left,) = [store for store in target.made if not store._loop.is_closed()]
    left.close()


def test_an_opening_that_fails_beside_another_process_s_is_no_hang() -> None:
    """A journal's lock that a task meets: the store is closed, and only its own threads are waited for."""
    recorder = interleave(find_or_import(f"{__name__}:IN_PROCESSES"))
    assert not recorder.findings
    assert not recorder.vacuous
