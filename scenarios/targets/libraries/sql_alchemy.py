"""SQLAlchemy, from PyPI: a store of two columns, by ORM sessions on a connection pool.

Its promise: changes in ``with Session(engine) as session, session.begin()`` are committed at the end, and rolled back
after an exception (https://docs.sqlalchemy.org/en/20/orm/session_transaction.html). The pool keeps up to three
connections; a view uses two at once, as two threads of a program would.

Not covered: several threads, nested transactions, and the asynchronous engine, which has a target in ``docs/field``.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import orm

from tornpage.scenarios.model.target import Configuration, Environment, View
from tornpage.scenarios.targets.libraries.support import ItemsTarget

_REGISTRY = orm.registry()
_ITEMS = sqlalchemy.Table(
    "item", _REGISTRY.metadata,
    sqlalchemy.Column("key", sqlalchemy.String, primary_key=True),
    sqlalchemy.Column("value", sqlalchemy.String, nullable=False),
)  # fmt: skip


class _Item:
    def __init__(self, key: str, value: str) -> None:
        self.key = key
        self.value = value


_REGISTRY.map_imperatively(_Item, _ITEMS)


class PooledStore:
    """Each call takes a connection from the pool, and returns it."""

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self._engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.QueuePool, pool_size=3)

        def set_up(connection: Any, _record: Any) -> None:
            connection.execute(f"PRAGMA journal_mode = {configuration.journal_mode}")
            connection.execute(f"PRAGMA synchronous = {configuration.synchronous}")

        sqlalchemy.event.listen(self._engine, "connect", set_up)
        try:
            _REGISTRY.metadata.create_all(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

    def set(self, key: str, value: str) -> None:
        """Add an item, or change it."""
        with orm.Session(self._engine) as session, session.begin():
            session.merge(_Item(key, value))

    def move(self, key: str, to: str) -> None:
        """Two changes in one transaction."""
        with orm.Session(self._engine) as session, session.begin():
            item = session.get_one(_Item, key)
            session.add(_Item(to, item.value))
            session.flush()
            session.delete(item)

    def remove(self, key: str) -> int:
        """How many there were."""
        with self._engine.begin() as connection:
            gone: int = connection.execute(sqlalchemy.delete(_ITEMS).where(_ITEMS.c.key == key)).rowcount
        return gone

    def items(self) -> View:
        """All items; a second connection is in use meanwhile."""
        with orm.Session(self._engine) as session, self._engine.connect() as other:
            other.execute(sqlalchemy.text("SELECT 1"))
            return {item.key: item.value for item in session.scalars(sqlalchemy.select(_Item))}

    def close(self) -> None:
        """Close the pool's connections."""
        self._engine.dispose()


class SQLAlchemyPool(ItemsTarget):
    """Target: SQLAlchemy's ORM on a QueuePool, unmodified."""

    name = "sqlalchemy"
    title = f"SQLAlchemy {version('sqlalchemy')}, unmodified: ORM sessions on a connection pool"
    # `PRAGMA journal_mode` is sent by the user's own handler.
    unpromised: Mapping[str, str] = {
        "waits-for-a-short-lock": "PRAGMA journal_mode = WAL on a new file waits for no lock",
        "opens-together": "create_all() looks for a table, and then makes it",
    }

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> PooledStore:  # noqa: ARG002
        """An engine with its pool."""
        return PooledStore(path, configuration)

    def view(self, store: PooledStore) -> View:
        """The rows that its ORM returns."""
        return store.items()
