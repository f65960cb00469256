"""aiosqlite: what it runs on a thread of its own is judged like what runs here."""

import contextlib
import sqlite3

import aiosqlite
import pytest
import pytest_asyncio

CREATE = "CREATE TABLE t (x)"
INSERT = "INSERT INTO t VALUES (1)"


@pytest.fixture
def db(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as db:
        db.execute(CREATE)
        yield db


@pytest_asyncio.fixture
async def adb(tmp_path):
    async with aiosqlite.connect(tmp_path / "a.db") as adb:
        await adb.execute(CREATE)
        yield adb


@pytest.mark.every_fault
def test_marked(db):
    db.execute(INSERT)
    db.commit()


@pytest.mark.every_fault
@pytest.mark.asyncio
async def test_marked_twin(adb):
    await adb.execute(INSERT)
    await adb.commit()


@pytest.mark.every_fault(retry=True)
def test_marked_fails(db):
    seen = set()
    for x in (1, 2):
        seen.add(x)
        with contextlib.suppress(sqlite3.Error):
            db.execute(INSERT)
            db.commit()
    assert len(db.execute("SELECT x FROM t").fetchall()) == len(seen)


@pytest.mark.every_fault(retry=True)
@pytest.mark.asyncio
async def test_marked_twin_fails(adb):
    seen = set()
    for x in (1, 2):
        seen.add(x)
        with contextlib.suppress(sqlite3.Error):
            await adb.execute(INSERT)
            await adb.commit()
    async with adb.execute("SELECT x FROM t") as rows:
        assert len(await rows.fetchall()) == len(seen)


@pytest.mark.every_fault(operations="write,sync")
@pytest.mark.asyncio
async def test_marked_that_never_closes(tmp_path):
    # The fault cuts it short, and the thread waits for what does not come.
    adb = await aiosqlite.connect(tmp_path / "a.db")
    await adb.execute(CREATE)
    await adb.close()


@pytest.mark.asyncio
async def test_unmarked(adb):
    await adb.execute(INSERT)
