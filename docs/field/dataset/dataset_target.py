"""dataset: "databases for lazy people", tables that get their columns from what is put into them."""

import dataset

from tornpage import Action, Configuration, SimpleTarget


class Store:
    """A table, and two changes in one transaction."""

    def __init__(self, path, configuration):
        pragmas = [f"PRAGMA synchronous = {configuration.synchronous}"]
        wal = configuration.journal_mode == "wal"
        self.db = dataset.connect(f"sqlite:///{path}", sqlite_wal_mode=wal, on_connect_statements=pragmas)
        try:
            self.items = self.db.create_table("items", primary_id="name", primary_type=self.db.types.text)
            self.items.create_column("value", self.db.types.text)
        except BaseException:
            self.db.close()
            raise

    def upsert(self, name, value):
        self.items.upsert({"name": name, "value": value}, ["name"])

    def insert_many(self, names, value):
        self.items.insert_many([{"name": name, "value": value} for name in names])

    def move(self, name, to):
        with self.db as transaction:
            row = transaction["items"].find_one(name=name)
            transaction["items"].insert({"name": to, "value": row["value"]})
            transaction["items"].delete(name=name)

    def delete(self, name):
        return self.items.delete(name=name)

    def close(self):
        self.db.close()


class Items(SimpleTarget):
    title = "dataset: a table"
    configurations = (Configuration("wal", "FULL"), Configuration("delete", "FULL"))
    file = "items.db"
    calls = (
        Action("upsert", {"name": "a", "value": "1"}),
        Action("insert_many", {"names": ["b", "c"], "value": "x" * 6_000}),
        Action("upsert", {"name": "a", "value": "2"}),
        Action("move", {"name": "b", "to": "d"}),
        Action("delete", {"name": "a"}),
    )
    beat = Action("upsert", {"name": "heartbeat", "value": "1"})

    def make(self, path, configuration, environment):
        return Store(path, configuration)

    def view(self, store):
        return {row["name"]: row["value"] for row in store.items.all()}

    def rows(self, connection):
        return dict(connection.execute("SELECT name, value FROM items").fetchall())
