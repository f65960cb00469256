"""SQLAlchemy: a store on its connection pool (`QueuePool`), and the same on its asynchronous engine with aiosqlite."""

import asyncio

import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tornpage import Action, Configuration, SimpleTarget


class Base(DeclarativeBase):
    """The models of this store."""


class Item(Base):
    """A key and its value."""

    __tablename__ = "item"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Pooled:
    """Each call takes a connection out of the pool, and gives it back."""

    def __init__(self, path, configuration):
        self.engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.QueuePool, pool_size=3)
        _set(self.engine, configuration)
        try:
            Base.metadata.create_all(self.engine)
        except BaseException:
            self.engine.dispose()
            raise

    def set(self, key, value):
        with Session(self.engine) as session, session.begin():
            session.merge(Item(key=key, value=value))

    def move(self, key, to):
        with Session(self.engine) as session, session.begin():
            item = session.get_one(Item, key)
            session.add(Item(key=to, value=item.value))
            session.flush()
            session.delete(item)

    def remove(self, key):
        with self.engine.begin() as connection:
            return connection.execute(sqlalchemy.delete(Item).where(Item.key == key)).rowcount

    def items(self):
        # Two connections at once, as two threads of a program would have them.
        with Session(self.engine) as one, Session(self.engine) as other:
            other.execute(sqlalchemy.text("SELECT 1"))
            return {item.key: item.value for item in one.scalars(sqlalchemy.select(Item))}

    def close(self):
        self.engine.dispose()


def _set(engine, configuration):
    @sqlalchemy.event.listens_for(engine, "connect")
    def configure(connection, _):
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA journal_mode = {configuration.journal_mode}")
        cursor.execute(f"PRAGMA synchronous = {configuration.synchronous}")
        cursor.close()


class Pool(SimpleTarget):
    title = "SQLAlchemy: ORM sessions on a QueuePool"
    configurations = (Configuration("delete", "FULL"), Configuration("wal", "NORMAL"))
    kind = Pooled
    file = "items.db"
    calls = (
        Action("set", {"key": "a", "value": "1"}),
        Action("set", {"key": "b", "value": "x" * 6_000}),
        Action("set", {"key": "a", "value": "2"}),
        Action("move", {"key": "b", "to": "c"}),
        Action("remove", {"key": "a"}),
    )
    beat = Action("set", {"key": "heartbeat", "value": "1"})

    def make(self, path, configuration, environment):
        return self.kind(path, configuration)

    def view(self, store):
        return store.items()

    def rows(self, connection):
        return dict(connection.execute("SELECT key, value FROM item").fetchall())


class AsyncPooled:
    """The same on the asynchronous engine; each call is run to its end."""

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
            await connection.run_sync(Base.metadata.create_all)

    def set(self, key, value):
        async def set():
            async with self.engine.begin() as connection:
                await connection.execute(sqlalchemy.delete(Item).where(Item.key == key))
                await connection.execute(sqlalchemy.insert(Item).values(key=key, value=value))

        self._run(set())

    def remove(self, key):
        async def remove():
            async with self.engine.begin() as connection:
                return (await connection.execute(sqlalchemy.delete(Item).where(Item.key == key))).rowcount

        return self._run(remove())

    def items(self):
        async def read():
            async with self.engine.connect() as connection:
                return dict((await connection.execute(sqlalchemy.select(Item.key, Item.value))).tuples().all())

        return self._run(read())

    def _run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def close(self):
        self._run(self.engine.dispose())
        self._loop.close()


class AsyncPool(Pool):
    title = "SQLAlchemy: the asynchronous engine with aiosqlite"
    kind = AsyncPooled
    calls = tuple(call for call in Pool.calls if call.name != "move")
