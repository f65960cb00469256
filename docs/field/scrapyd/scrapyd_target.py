"""Scrapyd: the queue of spiders that it runs, `JsonSqlitePriorityQueue`."""

from scrapyd.sqlite import JsonSqlitePriorityQueue

from tornpage import Action, Configuration, SimpleTarget


class Queue(JsonSqlitePriorityQueue):
    """The queue, and a way to let go of its file."""

    def close(self):
        self.conn.close()


class Spiders(SimpleTarget):
    title = "Scrapyd: JsonSqlitePriorityQueue"
    configurations = (Configuration("delete", "FULL"),)
    file = "project.db"
    calls = (
        Action("put", {"message": {"name": "one"}, "priority": 0.0}),
        Action("put", {"message": {"name": "two", "settings": "x" * 6_000}, "priority": 1.0}),
        Action("pop"),
        Action("put", {"message": {"name": "three"}, "priority": 0.0}),
        Action("pop"),
        Action("clear"),
    )
    beat = Action("put", {"message": {"name": "heartbeat"}, "priority": 0.0})
    hands_out = ("pop",)
    # "It relies on SQLite concurrency support for providing atomic inter-process operations."
    callers = ("processes",)

    def make(self, path, configuration, environment):
        return Queue(str(path), "spider_queue")

    def view(self, store):
        return self.rows(store.conn)

    def rows(self, connection):
        rows = connection.execute("SELECT id, priority, message FROM spider_queue ORDER BY id").fetchall()
        return {f"message/{id}": [priority, bytes(message).decode()] for id, priority, message in rows}
