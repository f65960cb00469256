"""kombu: its SQLAlchemy transport, a broker in one SQLite file."""

import json
from queue import Empty

import kombu
from kombu.transport import sqlalchemy as transport

from tornpage import Action, Configuration, SimpleTarget


class Broker:
    """A channel of the transport, used by the methods that every virtual transport has."""

    def __init__(self, path):
        self._url = f"sqla+sqlite:///{path}"
        self._connection = kombu.Connection(self._url)
        try:
            self.channel = self._connection.channel()
            self.channel._new_queue("q")
        except BaseException:
            self.close()
            raise

    def put(self, body):
        self.channel._put("q", {"body": body})

    def get(self):
        try:
            return self.channel._get("q")["body"]
        except Empty:
            return None

    def purge(self):
        return self.channel._purge("q")

    def messages(self):
        found = {one.id: [json.loads(one.payload)["body"], bool(one.visible)] for one in self.channel._query_all("q")}
        # Its session would answer what it has read from its own memory.
        self.channel.session.rollback()
        return {f"message/{id}": message for id, message in found.items()}

    def close(self):
        channel = getattr(self, "channel", None)
        if channel is not None and channel._session is not None:
            channel._session.close()
        self._connection.close()
        for hostname in list(transport.Channel._engines):
            if hostname in self._url:
                transport.Channel._engines.pop(hostname)[0].dispose()


class Queue(SimpleTarget):
    title = "kombu: the SQLAlchemy transport"
    configurations = (Configuration("delete", "FULL"),)
    file = "broker.sqlite"
    calls = (
        Action("put", {"body": "a"}),
        Action("put", {"body": "x" * 6_000}),
        Action("put", {"body": "b"}),
        Action("get"),
        Action("get"),
        Action("purge"),
        Action("put", {"body": "c"}),
    )
    beat = Action("put", {"body": "heartbeat"})
    hands_out = ("get",)

    def make(self, path, configuration, environment):
        return Broker(path)

    def view(self, store):
        return store.messages()

    def rows(self, connection):
        rows = connection.execute("SELECT id, payload, visible FROM kombu_message").fetchall()
        return {f"message/{id}": [json.loads(payload)["body"], bool(visible)] for id, payload, visible in rows}
