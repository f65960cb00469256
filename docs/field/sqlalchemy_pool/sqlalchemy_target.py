"""SQLAlchemy: its asynchronous engine with aiosqlite; ORM sessions on a connection pool ship with tornpage."""

import asyncio

import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from tornpage.scenarios.targets.libraries.sql_alchemy import SQLAlchemyPool

METADATA = sqlalchemy.MetaData()
ITEMS = sqlalchemy.Table(
    "item",
    METADATA,
    sqlalchemy.Column("key", sqlalchemy.String, primary_key=True),
    sqlalchemy.Column("value", sqlalchemy.String, nullable=False),
)


def _set(engine, configuration):
    @sqlalchemy.event.listens_for(engine, "connect")
    def configure(connection, _):
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA journal_mode = {configuration.journal_mode}")
        cursor.execute(f"PRAGMA synchronous = {configuration.synchronous}")
        cursor.close()


class AsyncPooled:
    """A store on the asynchronous engine; each call is run to its end."""

    def __init__(self, path, configuration):
        self._loop = asyncio.new_event_loop()
        self.engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        _set(self.engine.sync_engine, configuration)
        try:
            self._run(self._create())
        except BaseException:
            self.close()
            raise

    async def _create(self):
        async with self.engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)

    def set(self, key, value):
        async def set():
            async with self.engine.begin() as connection:
                await connection.execute(sqlalchemy.delete(ITEMS).where(ITEMS.c.key == key))
                await connection.execute(sqlalchemy.insert(ITEMS).values(key=key, value=value))

        self._run(set())

    def remove(self, key):
        async def remove():
            async with self.engine.begin() as connection:
                return (await connection.execute(sqlalchemy.delete(ITEMS).where(ITEMS.c.key == key))).rowcount

        return self._run(remove())

    def items(self):
        async def read():
            async with self.engine.connect() as connection:
                return dict((await connection.execute(sqlalchemy.select(ITEMS))).tuples().all())

        return self._run(read())

    def _run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def close(self):
        self._run(self.engine.dispose())
        self._loop.close()


class AsyncPool(SQLAlchemyPool):
    title = "SQLAlchemy: the asynchronous engine with aiosqlite"
    calls = tuple(call for call in SQLAlchemyPool.calls if call.name != "move")

    def make(self, path, configuration, environment):
        return AsyncPooled(path, configuration)
