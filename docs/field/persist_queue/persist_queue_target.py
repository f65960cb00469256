"""persist-queue: `SQLiteQueue`, and `SQLiteAckQueue`, whose items stay until they are acknowledged."""

import persistqueue

from tornpage import Action, Configuration, SimpleTarget


class Queue:
    """A queue of text; an empty one answers None."""

    def __init__(self, path):
        self.queue = persistqueue.SQLiteQueue(str(path.parent), db_file_name=path.name)

    def put(self, item):
        self.queue.put(item)

    def get(self):
        try:
            return self.queue.get(block=False)
        except persistqueue.Empty:
            return None

    def items(self):
        return [one["data"] for one in self.queue.queue()]

    def close(self):
        self.queue.close()


class Fifo(SimpleTarget):
    title = "persist-queue: SQLiteQueue"
    configurations = (Configuration("wal", "FULL"),)
    file = "data.db"
    # "Working for multi-threading, not multi-process": its issue 152.
    callers = ()
    unpromised = {
        "waits-for-a-short-lock": "PRAGMA journal_mode = WAL on a new file waits for no lock",
        "memory-equals-disk": {"heap": "Python's `with connection`: ROLLBACK has no memory either"},
    }
    calls = (
        Action("put", {"item": "a"}),
        Action("put", {"item": "b" * 6_000}),
        Action("put", {"item": "c"}),
        Action("get"),
        Action("get"),
    )
    beat = Action("put", {"item": "heartbeat"})
    hands_out = ("get",)

    def make(self, path, configuration, environment):
        return Queue(path)

    def view(self, store):
        return {f"item/{place}": item for place, item in enumerate(store.items())}

    def rows(self, connection):
        load = persistqueue.serializers.pickle.loads
        rows = connection.execute("SELECT data FROM queue_default ORDER BY _id").fetchall()
        return {f"item/{place}": load(data) for place, (data,) in enumerate(rows)}


class AckQueue(Queue):
    """The same with acknowledgements, by the item's text."""

    def __init__(self, path):
        self.queue = persistqueue.SQLiteAckQueue(str(path.parent), db_file_name=path.name, auto_resume=False)

    def ack(self, item):
        self._change(self.queue.ack, item)

    def nack(self, item):
        self._change(self.queue.nack, item)

    def ack_failed(self, item):
        self._change(self.queue.ack_failed, item)

    def clear_acked_data(self):
        self.queue.clear_acked_data(max_delete=10, keep_latest=0)

    def _change(self, change, item):
        found = next((one for one in self.queue.queue() if one["data"] == item), None)
        if found is not None:
            change(id=found["id"])

    def items(self):
        return {one["id"]: [one["data"], int(one["status"])] for one in self.queue.queue()}


class Ack(Fifo):
    title = "persist-queue: SQLiteAckQueue"
    calls = (
        Action("put", {"item": "a"}),
        Action("put", {"item": "b" * 6_000}),
        Action("get"),
        Action("ack", {"item": "a"}),
        Action("get"),
        Action("nack", {"item": "b" * 6_000}),
        Action("get"),
        Action("ack_failed", {"item": "b" * 6_000}),
    )

    def make(self, path, configuration, environment):
        return AckQueue(path)

    def view(self, store):
        return {f"item/{id}": item for id, item in store.items().items()}

    def rows(self, connection):
        load = persistqueue.serializers.pickle.loads
        rows = connection.execute("SELECT _id, data, status FROM ack_queue_default").fetchall()
        return {f"item/{id}": [load(data), int(status)] for id, data, status in rows}
