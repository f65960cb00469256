"""mem0: the history of memories, and the last messages, which its `SQLiteManager` keeps."""

from mem0.memory.storage import SQLiteManager

from tornpage import Action, Configuration, SimpleTarget


class History:
    """The manager, with the view that `get_history` and `get_last_messages` give."""

    def __init__(self, path):
        self.manager = SQLiteManager(str(path))

    def add_history(self, memory, new, event):
        self.manager.add_history(memory, None, new, event)

    def batch_add_history(self, memories, new):
        self.manager.batch_add_history([{"memory_id": one, "new_memory": new, "event": "ADD"} for one in memories])

    def save_messages(self, scope, texts):
        self.manager.save_messages([{"role": "user", "content": text} for text in texts], scope)

    def close(self):
        self.manager.close()


class Memories(SimpleTarget):
    title = "mem0: SQLiteManager"
    configurations = (Configuration("delete", "FULL"),)
    file = "history.db"
    calls = (
        Action("add_history", {"memory": "a", "new": "1", "event": "ADD"}),
        Action("batch_add_history", {"memories": ["b", "c"], "new": "x" * 6_000}),
        Action("save_messages", {"scope": "s", "texts": ["d", "x" * 6_000]}),
        Action("add_history", {"memory": "e", "new": "2", "event": "UPDATE"}),
    )
    beat = Action("add_history", {"memory": "heartbeat", "new": "1", "event": "ADD"})

    def make(self, path, configuration, environment):
        return History(path)

    def view(self, store):
        seen = {}
        for memory in ("a", "b", "c", "e", "heartbeat"):
            for number, one in enumerate(store.manager.get_history(memory)):
                seen[f"{memory}/{number}"] = [one["event"], one["new_memory"]]
        texts = [one["content"] for one in store.manager.get_last_messages("s")]
        return seen | {f"message/{text[:1]}": text for text in texts}

    def rows(self, connection):
        seen = {}
        for memory, event, new in connection.execute("SELECT memory_id, event, new_memory FROM history").fetchall():
            number = sum(key.startswith(f"{memory}/") for key in seen)
            seen[f"{memory}/{number}"] = [event, new]
        texts = connection.execute("SELECT content FROM messages").fetchall()
        return seen | {f"message/{text[:1]}": text for (text,) in texts}
