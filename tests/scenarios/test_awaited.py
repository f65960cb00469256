"""Asynchronous stores as targets: `awaited`, first targets for them, and what their threads close late."""

import asyncio
import contextvars
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from tornpage import Action, SimpleTarget, awaited, faults
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.recorder import Recorder

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.usefixtures("collected", "quick_is_small"),
    # aiosqlite's own, and sqlite3's from 3.13 on, of a connection that a failed opening has left to the collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*was deleted before being closed:ResourceWarning"),
]

SCHEMA = "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT)"


class Notes:
    """Its transactions are rolled back after an error and after a cancellation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def connect(self) -> None:
        self.db = await aiosqlite.connect(self.path, isolation_level=None)
        async with self.db.execute("PRAGMA journal_mode = WAL") as mode:
            await mode.fetchone()
        await self.db.execute(SCHEMA)

    async def put(self, name: str, text: str) -> None:
        try:
            await self.db.execute("BEGIN IMMEDIATE")
            await self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text))
            await self.db.execute("COMMIT")
        except BaseException:
            await self.db.rollback()
            raise

    async def all(self) -> dict[str, str]:
        return dict(await self.db.execute_fetchall("SELECT name, text FROM note ORDER BY name"))  # type: ignore[arg-type]

    async def each(self) -> Any:
        async with self.db.execute("SELECT name FROM note ORDER BY name") as rows:
            async for (name,) in rows:
                yield name

    async def close(self) -> None:
        await self.db.close()


class BeginsOutside(Notes):
    """A call that is cancelled while it begins leaves the transaction that its thread begins."""

    async def put(self, name: str, text: str) -> None:
        await self.db.execute("BEGIN IMMEDIATE")
        try:
            await self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text))
            await self.db.execute("COMMIT")
        except BaseException:
            await self.db.rollback()
            raise


class NotesTarget(SimpleTarget):
    file = "notes.sqlite"
    calls = (Action("put", {"name": "a", "text": "1"}), Action("put", {"name": "a", "text": "2"}))
    beat = Action("put", {"name": "beat", "text": ""})
    kind = Notes

    def make(self, path: Path, configuration: Any, environment: Any) -> Any:
        return awaited(self.kind(path), "connect")

    def view(self, store: Any) -> dict[str, str]:
        return dict(store.all())

    def rows(self, connection: Any) -> dict[str, str]:
        return dict(connection.execute("SELECT name, text FROM note"))


class ReadsAtOnce(Notes):
    """Where its first read fails, its connection's thread keeps that call, and with it the connection."""

    async def connect(self) -> None:
        await super().connect()
        self.begun = await self.all()


class ReadsAtOnceTarget(NotesTarget):
    kind = ReadsAtOnce


class BeginsOutsideTarget(NotesTarget):
    kind = BeginsOutside


class Unawaited(NotesTarget):
    def make(self, path: Path, configuration: Any, environment: Any) -> Any:
        return self.kind(path)

    def view(self, store: Any) -> dict[str, str]:
        return {}


# -- awaited ---------------------------------------------------------------------------------------------------


def test_each_call_is_run_to_its_end_and_the_thread_of_its_connection_ends_with_the_store(tmp_path: Path) -> None:
    before = {*threading.enumerate()}
    store = awaited(Notes(tmp_path / "notes.sqlite"), "connect")
    store.put("b", "2")
    store.put(name="a", text="1")
    assert store.all() == {"a": "1", "b": "2"}
    assert store.each() == ["a", "b"]
    assert store.path == tmp_path / "notes.sqlite"
    assert store.db.in_transaction is False
    store.close()
    for thread in {*threading.enumerate()} - before:
        # It has been stopped, and may still be ending.
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("method", ["__aenter__", "opened", "made"])
def test_a_store_is_opened_by_what_is_named(tmp_path: Path, method: str) -> None:
    class Entered(Notes):
        async def __aenter__(self) -> "Entered":
            await self.connect()
            return self

        async def __aexit__(self, *_error: object) -> None:
            await self.db.close()

        @classmethod
        async def opened(cls, path: Path) -> "Entered":
            return await cls(path).__aenter__()

        close = None  # type: ignore[assignment]

    async def made() -> Entered:
        return await Entered.opened(tmp_path / "notes.sqlite")

    begun = {"opened": lambda: Entered.opened(tmp_path / "notes.sqlite"), "made": made}
    store = awaited(begun[method]()) if method in begun else awaited(Entered(tmp_path / "notes.sqlite"), method)
    store.put("a", "1")
    assert store.all() == {"a": "1"}
    store.close()


def test_what_the_store_raises_is_raised_and_no_loop_stays_open(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(aiosqlite.OperationalError, match="unable to open database file"):
            awaited(Notes(tmp_path / "nowhere" / "notes.sqlite"), "connect")
        store = awaited(Notes(tmp_path / "notes.sqlite"), "connect")
        with pytest.raises(AttributeError, match="'Notes' object has no attribute 'nothing'"):
            store.nothing  # noqa: B018 - the error is wanted
        with pytest.raises(TypeError, match="put"):
            store.put()
        store.close()


def test_a_task_that_still_runs_is_cancelled_when_the_store_is_closed() -> None:
    ended = []

    class Works:
        async def start(self) -> None:
            self.task = asyncio.ensure_future(self.work())
            await asyncio.sleep(0)

        async def work(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("work")

        async def close(self) -> None:
            ended.append("store")

    awaited(Works(), "start").close()
    assert ended == ["store", "work"]


def test_a_store_that_nothing_awaits_is_refused_with_what_to_write(command: Command) -> None:
    ended = command("sweep", "--target", "test_awaited:Unawaited")
    assert ended.code == 2
    assert "is async, and nothing awaits it: let `make` return `awaited(store)`" in ended.err


# -- in searches -----------------------------------------------------------------------------------------------


def searched(target: SimpleTarget, search: str) -> Recorder:
    profile = Profile("test", 1, 8, scenarios=2, steps=4, limit_points=24)
    return campaign.run(target, Plan((search,), profile, report=None))


class LeavesItsConnection(NotesTarget):
    """Where it fails to open, the collector tells its connection's thread to close that."""

    def make(self, path: Path, configuration: Any, environment: Any) -> Any:
        async def opened(store: Notes) -> Notes:
            await store.connect()
            return store

        return awaited(opened(self.kind(path)))


@pytest.mark.parametrize("target", [NotesTarget, ReadsAtOnceTarget, LeavesItsConnection])
def test_a_sound_store_is_silent_where_it_fails_to_open_and_leaves_nothing_open(
    target: type[NotesTarget], capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = searched(target(), "sweep")
    with faults.install() as shims:
        assert not shims.paths
    assert not recorder.findings
    assert not recorder.vacuous
    assert "Event loop is closed" not in capfd.readouterr().err


def test_what_a_dropped_connection_s_thread_closes_is_waited_for(tmp_path: Path) -> None:
    from tornpage.scenarios.execution.dropped import closed_by_threads, collected

    with faults.install():
        before = faults.shims().handles
        gate = threading.Event()

        def closes_late() -> None:
            connection = faults.connect_beside(tmp_path / "late.sqlite")
            opened.set()
            gate.wait()
            connection.close()

        (tmp_path / "late.sqlite").touch()
        opened = threading.Event()
        thread = threading.Thread(target=closes_late)
        thread.start()
        opened.wait()
        assert faults.shims().handles == before + 1
        # It sleeps: it is not waited for.
        with collected():
            closed_by_threads(before)
        assert faults.shims().handles == before + 1
        gate.set()
        closed_by_threads(before)
        assert faults.shims().handles == before
        thread.join()


def test_a_cancellation_is_told_beside_a_rollback_without_memory() -> None:
    """Nearly every store has the second: it must not hide the first."""
    told = {}
    for target in (BeginsOutsideTarget(), NotesTarget()):
        steps = [(one.finding.code, one.finding.scenario.steps) for one in searched(target, "limits").findings]
        told[type(target)] = {(code, any(getattr(one, "kind", "") == "awaits" for one in all_)) for code, all_ in steps}
    assert ("still-usable-after-the-fault", True) in told[BeginsOutsideTarget]
    assert ("still-usable-after-the-fault", False) in told[BeginsOutsideTarget]
    assert not any(cancelled for _, cancelled in told[NotesTarget])


# -- first targets ---------------------------------------------------------------------------------------------

ASYNCHRONOUS = """
import aiosqlite, sqlite3

SCHEMA = "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT)"

class Notes:
    def __init__(self, path):
        self.path, self.db = path, None

    async def connect(self):
        self.db = await aiosqlite.connect(self.path, isolation_level=None)

    async def create_tables(self):
        await self.db.execute(SCHEMA)

    async def put(self, name: str, text: str):
        await self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text))

    async def all(self):
        return dict(await self.db.execute_fetchall("SELECT name, text FROM note ORDER BY name"))

    async def close(self):
        await self.db.close()

class MemoryFirst(Notes):
    async def create_tables(self):
        await super().create_tables()
        self.notes = await super().all()

    async def put(self, name: str, text: str):
        self.notes[name] = text
        await super().put(name, text)

    async def all(self):
        return self.notes

class Entered(Notes):
    async def __aenter__(self):
        await self.connect()
        await self.create_tables()
        return self

    async def __aexit__(self, *error):
        await self.db.close()

class Held(Notes):
    def __init__(self, db):
        self.db = db

    @classmethod
    async def open(cls, path):
        made = cls(await aiosqlite.connect(path, isolation_level=None))
        await made.create_tables()
        return made

async def made(path):
    return await Held.open(path)

class InTwoSteps:
    def __init__(self, path):
        self.path = path

    def connect(self):
        self.db = sqlite3.connect(self.path, isolation_level=None)

    def init_schema(self):
        self.db.execute(SCHEMA)

    def put(self, name: str, text: str):
        self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, text))

    def all(self):
        return dict(self.db.execute("SELECT name, text FROM note ORDER BY name"))

    def close(self):
        self.db.close()

class AtItsFirstCall(InTwoSteps):
    # Its `init` opens nothing.

    connect = init_schema = None

    def __init__(self, path):
        self.path, self.db = path, sqlite3.connect(path, isolation_level=None)

    def init(self):
        self.is_ready = True

    def put(self, name: str, text: str):
        self.db.execute(SCHEMA)
        super().put(name, text)

    def all(self):
        self.db.execute(SCHEMA)
        return super().all()
"""


@pytest.mark.parametrize(
    ("name", "line", "code"),
    [
        ("Notes", 'return awaited(Notes(path), "connect", "create_tables")', 0),
        ("MemoryFirst", 'return awaited(MemoryFirst(path), "connect", "create_tables")', 1),
        ("Entered", 'return awaited(Entered(path), "connect", "create_tables")', 0),
        ("Held", "return awaited(Held.open(path))", 0),
        ("made", "return awaited(made(path))", 0),
        ("InTwoSteps", "store = InTwoSteps(path)\nstore.connect()\nstore.init_schema()\nreturn store", 0),
        ("AtItsFirstCall", "return AtItsFirstCall(path)", 0),
    ],
)
def test_a_store_that_is_asynchronous_or_opened_by_a_method_gets_a_target(
    command: Command, tmp_path: Path, name: str, line: str, code: int
) -> None:
    module = f"asynchronous_{name.lower()}"
    (tmp_path / f"{module}.py").write_text(ASYNCHRONOUS)
    wrote = command("new", "target", "--from", f"{module}:{name}")
    assert wrote.code == 0, wrote
    assert textwrap.indent(line, " " * 8) in (tmp_path / f"{module}_target.py").read_text()
    swept = command(*wrote.out.splitlines()[-1].removeprefix("Next: tornpage ").split(), "--quiet", "--jobs", 1)
    assert swept.code == code, swept
    assert ("memory-equals-disk" in swept.out) is bool(code)


CURRENT: contextvars.ContextVar[Notes] = contextvars.ContextVar("current")


class OfTheContext:
    """Its calls use the store that its opening has left in a context variable, and `close` sets that back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def connect(self) -> None:
        notes = Notes(self.path)
        await notes.connect()
        self.token = CURRENT.set(notes)

    async def put(self, name: str, text: str) -> None:
        await CURRENT.get().put(name, text)

    async def close(self) -> None:
        await CURRENT.get().close()
        CURRENT.reset(self.token)


def test_the_calls_of_a_store_run_in_one_context(tmp_path: Path) -> None:
    stores = [awaited(OfTheContext(tmp_path / f"{name}.db"), "connect") for name in "ab"]
    for number, store in enumerate(stores):
        for _ in range(number + 1):
            store.put("key", "text")
            assert CURRENT.get(None) is None
    for store in reversed(stores):
        store.close()
