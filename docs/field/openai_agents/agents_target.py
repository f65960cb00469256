"""openai-agents: the conversation that `SQLiteSession` keeps."""

import asyncio
import concurrent.futures
import json

from agents import SQLiteSession

from tornpage import Action, Configuration, SimpleTarget


class Session:
    """A session, and a loop whose calls are made by one thread: the session keeps a connection for each."""

    def __init__(self, path):
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        try:
            self.session = SQLiteSession("s", path)
        except BaseException:
            self._end()
            raise

    def add_items(self, texts):
        return self._run(self.session.add_items([{"role": "user", "content": text} for text in texts]))

    def pop_item(self):
        return self._run(self.session.pop_item())

    def clear_session(self):
        return self._run(self.session.clear_session())

    def items(self):
        return [item["content"] for item in self._run(self.session.get_items())]

    def _run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def _end(self):
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def close(self):
        self.session.close()
        self._end()


class Conversation(SimpleTarget):
    title = "openai-agents: SQLiteSession"
    configurations = (Configuration("wal", "FULL"),)
    file = "conversation.db"
    calls = (
        Action("add_items", {"texts": ["a", "b"]}),
        Action("add_items", {"texts": ["x" * 6_000, "c", "d"]}),
        Action("pop_item"),
        Action("clear_session"),
        Action("add_items", {"texts": ["e"]}),
    )
    beat = Action("add_items", {"texts": ["heartbeat"]})
    hands_out = ("pop_item",)

    def make(self, path, configuration, environment):
        return Session(path)

    def view(self, store):
        return {f"item/{place}": text for place, text in enumerate(store.items())}

    def rows(self, connection):
        rows = connection.execute("SELECT message_data FROM agent_messages ORDER BY id").fetchall()
        return {f"item/{place}": json.loads(data)["content"] for place, (data,) in enumerate(rows)}
