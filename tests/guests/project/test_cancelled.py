"""Calls that are cancelled at each of their awaits: by asyncio and by anyio, on aiosqlite and SQLAlchemy's engine."""

import asyncio

import aiosqlite
import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

ADD = "INSERT INTO notes VALUES ('milk')"
TABLE = "CREATE TABLE IF NOT EXISTS notes (name TEXT)"


async def add(db, errors):
    try:
        await db.execute("BEGIN IMMEDIATE")
        await db.execute(ADD)
        await db.commit()
    except errors:
        # What was cancelled may be running on the connection's thread still; this one comes after it.
        await db.rollback()
        raise


async def on_aiosqlite(path, cancelled, errors):
    async with aiosqlite.connect(path, isolation_level=None) as db:
        await db.execute(TABLE)
        await cancelled(add(db, errors))


@pytest.mark.every_cancel
def test_marked_fails(tmp_path, cancelled):
    asyncio.run(on_aiosqlite(tmp_path / "a.db", cancelled, Exception))


@pytest.mark.every_cancel
def test_marked_by_anyio_fails(tmp_path, cancelled):
    anyio.run(on_aiosqlite, tmp_path / "a.db", cancelled, Exception)


async def add_by_engine(engine):
    async with engine.begin() as connection:
        await connection.execute(text(ADD))


async def add_on_connection(engine):
    connection = await engine.connect()
    await connection.execute(text(ADD))
    await connection.commit()
    await connection.close()


def on_sqlalchemy(path, cancelled, call):
    async def main():
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=AsyncAdaptedQueuePool)
        async with engine.begin() as connection:
            await connection.execute(text(TABLE))
        await cancelled(call(engine))
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.every_cancel
def test_marked_engine(tmp_path, cancelled):
    on_sqlalchemy(tmp_path / "a.db", cancelled, add_by_engine)


@pytest.mark.every_cancel
def test_marked_connection(tmp_path, cancelled):
    # SQLAlchemy gives a connection up in which it was cancelled.
    on_sqlalchemy(tmp_path / "a.db", cancelled, add_on_connection)


@pytest.mark.every_cancel
def test_marked(tmp_path, cancelled):
    asyncio.run(on_aiosqlite(tmp_path / "a.db", cancelled, BaseException))


@pytest.mark.every_cancel
def test_marked_by_anyio(tmp_path, cancelled):
    anyio.run(on_aiosqlite, tmp_path / "a.db", cancelled, BaseException)
