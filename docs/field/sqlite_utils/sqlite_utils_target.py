"""sqlite-utils: its Python interface, `Database` and `Table`."""

import sqlite_utils

from tornpage import Action, Configuration, SimpleTarget


class Store:
    """A table, changed by the methods that its documentation begins with."""

    def __init__(self, path, configuration):
        self.db = sqlite_utils.Database(path)
        try:
            if configuration.journal_mode == "wal":
                self.db.enable_wal()
            self.items = self.db["items"]
            if not self.items.exists():
                self.items.create({"id": str, "value": str, "count": int}, pk="id")
        except BaseException:
            self.db.close()
            raise

    def insert_all(self, ids, value):
        self.items.insert_all([{"id": id, "value": value, "count": 1} for id in ids], batch_size=2)

    def upsert(self, id, value):
        self.items.upsert({"id": id, "value": value, "count": 2}, pk="id")

    def update(self, id, value):
        self.items.update(id, {"value": value})

    def delete(self, id):
        self.items.delete(id)

    def delete_where(self, value):
        self.items.delete_where("value = ?", [value])

    def transform(self, default):
        self.items.transform(defaults={"count": default})

    def close(self):
        self.db.close()


class Items(SimpleTarget):
    title = "sqlite-utils: Database and Table"
    configurations = (Configuration("delete", "FULL"), Configuration("wal", "FULL"))
    file = "items.db"
    # "Will commit them according to the batch size": its documentation of insert_all.
    many_commits = ("insert_all",)
    unpromised = {"waits-for-a-short-lock": "enable_wal() on a new file waits for no lock"}
    calls = (
        Action("insert_all", {"ids": ["a", "b", "c"], "value": "x" * 3_000}),
        Action("upsert", {"id": "a", "value": "1"}),
        Action("update", {"id": "b", "value": "2"}),
        Action("transform", {"default": 3}),
        Action("delete", {"id": "a"}),
        Action("delete_where", {"value": "2"}),
    )
    beat = Action("upsert", {"id": "heartbeat", "value": "1"})

    def make(self, path, configuration, environment):
        return Store(path, configuration)

    def view(self, store):
        return {row["id"]: [row["value"], row["count"]] for row in store.db.query("SELECT * FROM items")}

    def rows(self, connection):
        rows = connection.execute("SELECT id, value, count FROM items").fetchall()
        return {id: [value, count] for id, value, count in rows}
