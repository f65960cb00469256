"""Two coroutines, and one that is cut short, in anyio's tests on asyncio and on trio; pytest-timeout counts one run."""

import contextlib
import itertools
import sqlite3
import threading
from functools import partial

import anyio
import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def db(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)) as db:
        db.execute("CREATE TABLE t (n)")
        db.execute("INSERT INTO t VALUES (0)")
        yield db


async def call(db, *statement):
    return await anyio.to_thread.run_sync(lambda: db.execute(*statement).fetchone())


async def add(db, lock=None):
    async with lock or contextlib.nullcontext():
        (n,) = await call(db, "SELECT n FROM t")
        await call(db, "UPDATE t SET n = ?", (n + 1,))


async def add_in_a_transaction(db, errors):
    try:
        await call(db, "BEGIN IMMEDIATE")
        await add(db)
        await call(db, "COMMIT")
    except errors:
        with anyio.CancelScope(shield=True):
            if db.in_transaction:
                await call(db, "ROLLBACK")
        raise


@pytest.mark.anyio
@pytest.mark.interleave
async def test_marked(db, callers):
    one = partial(add, db, anyio.Lock())
    await callers(one, one)
    assert await call(db, "SELECT n FROM t") == (2,)


async def in_a_task(work, *arguments):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, *arguments)


@pytest.mark.anyio
@pytest.mark.interleave
async def test_marked_in_a_task(db, callers):
    one = partial(in_a_task, add, db, anyio.Lock())
    await callers(one, one)
    assert await call(db, "SELECT n FROM t") == (2,)


@pytest.mark.anyio
@pytest.mark.interleave
async def test_marked_in_a_task_fails(db, callers):
    one = partial(in_a_task, add, db)
    await callers(one, one)
    assert await call(db, "SELECT n FROM t") == (2,)


async def fails():
    await anyio.lowlevel.checkpoint()
    raise LookupError


async def cleans_up(said):
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            said.append("A cleans up")
            await anyio.lowlevel.checkpoint()
            said.append("A is clean")


async def ends_early(said):
    said.append("A begins")
    with contextlib.suppress(BaseExceptionGroup):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cleans_up, said)
            tasks.start_soon(fails)
    said.append("A ends")


async def goes_on(said):
    for _ in range(4):
        said.append("B")
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
@pytest.mark.interleave
async def test_marked_cancelled_task(callers):
    said = []
    await callers(partial(ends_early, said), partial(goes_on, said))
    assert [one for one in said if one != "B"] == ["A begins", "A cleans up", "A is clean", "A ends"]
    # A task that is cancelled while the other call has the turn handles that in its own.
    assert len([*itertools.groupby(said, lambda one: one[0])]) <= 3


@pytest.mark.anyio
@pytest.mark.interleave
async def test_marked_fails(db, callers):
    await callers(lambda: add(db), lambda: add(db))
    assert await call(db, "SELECT n FROM t") == (2,)


@pytest.mark.anyio
@pytest.mark.every_cancel
async def test_marked_cut(db, cancelled):
    await cancelled(add_in_a_transaction(db, BaseException))


@pytest.mark.anyio
@pytest.mark.every_cancel
async def test_marked_cut_fails(db, cancelled):
    await cancelled(add_in_a_transaction(db, Exception))


@pytest.mark.timeout(1)
@pytest.mark.interleave
def test_marked_on_threads(db, tmp_path, callers):
    # All runs together take longer than the limit; none alone does.
    threading.Event().wait(0.2)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    callers(lambda: db.execute("UPDATE t SET n = n + 1"), lambda: other.execute("UPDATE t SET n = n + 1"))
    assert other.execute("SELECT n FROM t").fetchone() == (2,)
    other.close()


@pytest.mark.anyio
async def test_unmarked(db):
    await add(db)
