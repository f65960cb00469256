"""peewee: a model on `SqliteQueueDatabase`, which writes in a thread of its own; the plain one ships with tornpage."""

from playhouse.sqliteq import SqliteQueueDatabase

from tornpage import Action, Configuration
from tornpage.scenarios.targets.libraries.peewee_model import ModelStore, PeeweeModel


class QueueStore(ModelStore):
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


class Queue(PeeweeModel):
    title = "peewee: a model on SqliteQueueDatabase"
    configurations = (Configuration("wal", "FULL"),)
    kind = QueueStore
    calls = (
        Action("set", {"key": "a", "value": "1"}),
        Action("set", {"key": "b", "value": "x" * 6_000}),
        Action("add_returning", {"key": "c", "value": "2"}),
        Action("remove", {"key": "a"}),
    )
