"""requests-cache: `SQLiteDict`, the storage of its SQLite backend."""

from requests_cache.backends.sqlite import SQLiteDict

from tornpage import Action, Configuration, SimpleTarget


class Cache:
    """The dictionary with names for its operators."""

    def __init__(self, path, wal):
        self.items = SQLiteDict(path, serializer=None, wal=wal)

    def set(self, key, value):
        self.items[key] = value

    def set_many(self, values):
        with self.items.bulk_commit():
            for key, value in values.items():
                self.items[key] = value

    def delete(self, key):
        del self.items[key]

    def bulk_delete(self, keys):
        self.items.bulk_delete(keys)

    def close(self):
        self.items.close()


class Responses(SimpleTarget):
    title = "requests-cache: SQLiteDict"
    configurations = (Configuration("delete", "FULL"), Configuration("wal", "NORMAL"))
    file = "http_cache.sqlite"
    calls = (
        Action("set", {"key": "a", "value": "1"}),
        Action("set", {"key": "b", "value": "x" * 6_000}),
        Action("set", {"key": "a", "value": "2"}),
        Action("set_many", {"values": {"c": "3", "d": "x" * 6_000}}),
        Action("delete", {"key": "a"}),
        Action("bulk_delete", {"keys": ["b", "c"]}),
    )
    beat = Action("set", {"key": "heartbeat", "value": "1"})

    def make(self, path, configuration, environment):
        return Cache(path, configuration.journal_mode == "wal")

    def view(self, store):
        return {key: store.items[key] for key in list(store.items)}

    def rows(self, connection):
        return dict(connection.execute("SELECT key, value FROM http_cache").fetchall())
