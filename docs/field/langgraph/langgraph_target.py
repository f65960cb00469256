"""langgraph-checkpoint-sqlite: the checkpoints of an agent's graph, saved by `SqliteSaver`."""

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from tornpage import Action, Configuration, SimpleTarget

_LARGE = "x" * 6_000


def _config(thread, checkpoint=None):
    given = {"thread_id": thread, "checkpoint_ns": ""}
    return {"configurable": given | ({"checkpoint_id": checkpoint} if checkpoint else {})}


class Saver:
    """A saver on a connection of its own, as its documentation makes one."""

    def __init__(self, path, connect):
        self._connection = connect(path, check_same_thread=False)
        self.saver = SqliteSaver(self._connection)

    def put(self, thread, id, value):
        checkpoint = empty_checkpoint() | {"id": id, "ts": "", "channel_values": {"value": value}}
        self.saver.put(_config(thread), checkpoint, {"source": "input", "step": 1}, {})

    def put_writes(self, thread, id, task, values):
        self.saver.put_writes(_config(thread, id), [("value", value) for value in values], task)

    def delete_thread(self, thread):
        self.saver.delete_thread(thread)

    def close(self):
        self._connection.close()


class Checkpoints(SimpleTarget):
    title = "langgraph-checkpoint-sqlite: SqliteSaver"
    configurations = (Configuration("wal", "FULL"),)
    depths = ("statement", "vfs")
    file = "checkpoints.sqlite"
    calls = (
        Action("put", {"thread": "one", "id": "1", "value": "a"}),
        Action("put_writes", {"thread": "one", "id": "1", "task": "t", "values": ["b", _LARGE, "c"]}),
        Action("put", {"thread": "one", "id": "2", "value": _LARGE}),
        Action("put", {"thread": "two", "id": "1", "value": "d"}),
        Action("delete_thread", {"thread": "one"}),
    )
    beat = Action("put", {"thread": "heartbeat", "id": "1", "value": "e"})

    def make(self, path, configuration, environment):
        return Saver(path, environment.connect)

    def view(self, store):
        seen = {}
        for one in store.saver.list(None):
            given = one.config["configurable"]
            seen[f"checkpoint/{given['thread_id']}/{given['checkpoint_id']}"] = one.checkpoint["channel_values"][
                "value"
            ]
            for task, channel, value in one.pending_writes:
                writes = seen.setdefault(f"writes/{given['thread_id']}/{given['checkpoint_id']}/{task}", [])
                writes.append([channel, value])
        return seen

    def rows(self, connection):
        load = JsonPlusSerializer().loads_typed
        seen = {}
        rows = connection.execute("SELECT thread_id, checkpoint_id, type, checkpoint FROM checkpoints").fetchall()
        for thread, id, kind, blob in rows:
            seen[f"checkpoint/{thread}/{id}"] = load((kind, blob))["channel_values"]["value"]
        rows = connection.execute(
            "SELECT thread_id, checkpoint_id, task_id, channel, type, value FROM writes ORDER BY task_id, idx"
        ).fetchall()
        for thread, id, task, channel, kind, blob in rows:
            # What belongs to no checkpoint isn't shown by `list`.
            if f"checkpoint/{thread}/{id}" in seen:
                seen.setdefault(f"writes/{thread}/{id}/{task}", []).append([channel, load((kind, blob))])
            else:
                seen[f"orphan/{thread}/{id}/{task}/{channel}"] = load((kind, blob))
        return seen
