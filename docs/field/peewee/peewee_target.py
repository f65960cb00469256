"""peewee: a model on `SqliteDatabase`, and on `SqliteQueueDatabase`, which writes in a thread of its own."""

import peewee
from playhouse.sqliteq import SqliteQueueDatabase

from tornpage import Action, Configuration, SimpleTarget


class Store:
    """A key-value table, and two changes in one transaction."""

    def __init__(self, path, configuration):
        self.database = self.opened(path, configuration)

        class Item(peewee.Model):
            key = peewee.TextField(primary_key=True)
            value = peewee.TextField()

            class Meta:
                database = self.database

        self.items = Item
        try:
            self.database.connect(reuse_if_open=True)
            self.create()
        except BaseException:
            self.close()
            raise

    def create(self):
        self.database.create_tables([self.items])

    def opened(self, path, configuration):
        pragmas = {"journal_mode": configuration.journal_mode, "synchronous": configuration.synchronous}
        return peewee.SqliteDatabase(path, pragmas=pragmas)

    def set(self, key, value):
        self.items.replace(key=key, value=value).execute()

    def move(self, key, to):
        with self.database.atomic():
            item = self.items.get_by_id(key)
            self.items.create(key=to, value=item.value)
            item.delete_instance()

    def remove(self, key):
        return self.items.delete_by_id(key)

    def close(self):
        self.database.close()


class Model(SimpleTarget):
    title = "peewee: a model on SqliteDatabase"
    configurations = (Configuration("delete", "FULL"), Configuration("wal", "NORMAL"))
    kind = Store
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
        return {item.key: item.value for item in store.items.select()}

    def rows(self, connection):
        return dict(connection.execute("SELECT key, value FROM item").fetchall())


class QueueStore(Store):
    """Each change is one statement there: it has no transactions."""

    def opened(self, path, configuration):
        return SqliteQueueDatabase(path, pragmas={"synchronous": configuration.synchronous})

    def create(self):
        # What `create_tables` does is not waited for.
        self.database.execute_sql(
            "CREATE TABLE IF NOT EXISTS item (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
        ).fetchall()

    def add_returning(self, key, value):
        rows = self.items.insert(key=key, value=value).on_conflict_replace().returning(self.items.key).execute()
        return [row.key for row in rows]

    def close(self):
        self.database.stop()
        self.database.close()


class Queue(Model):
    title = "peewee: a model on SqliteQueueDatabase"
    configurations = (Configuration("wal", "FULL"),)
    kind = QueueStore
    calls = (
        Action("set", {"key": "a", "value": "1"}),
        Action("set", {"key": "b", "value": "x" * 6_000}),
        Action("add_returning", {"key": "c", "value": "2"}),
        Action("remove", {"key": "a"}),
    )
