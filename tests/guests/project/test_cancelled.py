"""Calls that are cancelled at each of their awaits by asyncio, anyio and trio, on aiosqlite and SQLAlchemy's engine."""

import asyncio
import contextlib
import sqlite3

import aiosqlite
import anyio
import pytest
import trio
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


async def add_in_a_nursery(path, cancelled, errors):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(TABLE)

        async def add():
            await trio.sleep(0)
            db.execute("BEGIN IMMEDIATE")
            try:
                db.execute(ADD)
                await trio.sleep(0)
                db.execute("COMMIT")
            except errors:
                db.execute("ROLLBACK")
                raise

        async def call():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(add)

        async with trio.open_nursery() as others:
            # No task of the call's.
            others.start_soon(trio.sleep_forever)
            await cancelled(call())
            others.cancel_scope.cancel()


@pytest.mark.every_cancel
def test_marked_in_a_nursery(tmp_path, cancelled):
    trio.run(add_in_a_nursery, tmp_path / "a.db", cancelled, BaseException)


@pytest.mark.every_cancel
def test_marked_in_a_nursery_fails(tmp_path, cancelled):
    trio.run(add_in_a_nursery, tmp_path / "a.db", cancelled, Exception)
