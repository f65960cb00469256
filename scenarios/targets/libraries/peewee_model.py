"""peewee, from PyPI: a model of two columns on its `SqliteDatabase`.

Its promise: "If an exception occurs in a wrapped block, the current transaction/savepoint will be rolled back" (of
`atomic`, https://docs.peewee-orm.com/en/latest/peewee/transactions.html).

Not covered: several threads; `SqliteQueueDatabase`, which has a target in ``docs/field``.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import peewee

from tornpage.scenarios.model.target import Configuration, Environment, View
from tornpage.scenarios.targets.libraries.support import ItemsTarget


class ModelStore:
    """A key-value table, and two changes in one transaction."""

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self.database: Any = self.opened(path, configuration)
        columns = {"key": peewee.TextField(primary_key=True), "value": peewee.TextField()}
        meta = type("Meta", (), {"database": self.database, "table_name": "item"})
        self.items: Any = type("Item", (peewee.Model,), columns | {"Meta": meta})
        try:
            self.database.connect(reuse_if_open=True)
            self.create()
        except BaseException:
            self.close()
            raise

    def opened(self, path: Path, configuration: Configuration) -> Any:
        """A database, with the configuration as its own pragmas."""
        pragmas = {"journal_mode": configuration.journal_mode, "synchronous": configuration.synchronous}
        return peewee.SqliteDatabase(str(path), pragmas=pragmas)

    def create(self) -> None:
        """Create the table."""
        self.database.create_tables([self.items])

    def set(self, key: str, value: str) -> None:
        """Add an item, or change it."""
        self.items.replace(key=key, value=value).execute()

    def move(self, key: str, to: str) -> None:
        """Two changes in one transaction."""
        with self.database.atomic():
            item = self.items.get_by_id(key)
            self.items.create(key=to, value=item.value)
            item.delete_instance()

    def remove(self, key: str) -> int:
        """How many there were."""
        gone: int = self.items.delete_by_id(key)
        return gone

    def close(self) -> None:
        """Close its connection."""
        self.database.close()


class PeeweeModel(ItemsTarget):
    """Target: a model of peewee's, unmodified."""

    name = "peewee"
    title = f"peewee {version('peewee')}, unmodified: a model on SqliteDatabase"
    kind: type[ModelStore] = ModelStore

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> ModelStore:  # noqa: ARG002
        """A database and its model."""
        return self.kind(path, configuration)

    def view(self, store: ModelStore) -> View:
        """The rows that the model returns."""
        return {item.key: item.value for item in store.items.select()}
