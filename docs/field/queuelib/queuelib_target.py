"""queuelib (Scrapy's queues): `FifoSQLiteQueue` and `LifoSQLiteQueue`."""

from queuelib.queue import FifoSQLiteQueue, LifoSQLiteQueue

from tornpage import Action, Configuration, SimpleTarget


class Queue:
    """A queue, with text for what are bytes there."""

    def __init__(self, kind, path):
        self.queue = kind(path)

    def push(self, item):
        self.queue.push(item.encode())

    def pop(self):
        item = self.queue.pop()
        return None if item is None else item.decode()

    def clear(self):
        self.queue.clear()

    def close(self):
        self.queue.close()


class Fifo(SimpleTarget):
    title = "queuelib: FifoSQLiteQueue"
    configurations = (Configuration("delete", "FULL"),)
    kind = FifoSQLiteQueue
    file = "queue.sqlite"
    calls = (
        Action("push", {"item": "a"}),
        Action("push", {"item": "b" * 6_000}),
        Action("push", {"item": "c"}),
        Action("pop"),
        Action("pop"),
        Action("clear"),
        Action("push", {"item": "d"}),
    )
    beat = Action("push", {"item": "heartbeat"})
    hands_out = ("pop",)
    # "Queuelib collections are not thread-safe": its README.
    callers = ()
    unpromised = {"memory-equals-disk": {"heap": "Python's `with connection`: ROLLBACK has no memory either"}}

    def make(self, path, configuration, environment):
        return Queue(self.kind, path)

    def view(self, store):
        # The queue answers its length and the next item; the rest of it is asked of its own connection.
        with store.queue._db as connection:
            return self.rows(connection)

    def rows(self, connection):
        # By their places: the file of an empty queue is removed when it is closed, and its numbers begin anew.
        rows = connection.execute("SELECT item FROM queue ORDER BY id").fetchall()
        return {f"item/{place}": bytes(item).decode() for place, (item,) in enumerate(rows)}


class Lifo(Fifo):
    title = "queuelib: LifoSQLiteQueue"
    kind = LifoSQLiteQueue
