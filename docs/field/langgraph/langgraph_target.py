"""langgraph-checkpoint-sqlite: `AsyncSqliteSaver`; the synchronous one ships with tornpage."""

import asyncio

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from tornpage.scenarios.targets.libraries.langgraph_saver import WRITES, Checkpoints, checkpoint_of, config_of


class AsyncSaver:
    """The asynchronous saver, and a loop for each call."""

    def __init__(self, path):
        self._loop = asyncio.new_event_loop()
        self._connection = None
        try:
            self._run(self._open(path))
        except BaseException:
            self.close()
            raise

    async def _open(self, path):
        self._connection = await aiosqlite.connect(path)
        self.saver = AsyncSqliteSaver(self._connection)
        await self.saver.setup()

    def put(self, thread, id, value):
        self._run(self.saver.aput(config_of(thread), checkpoint_of(id, value), {"source": "input", "step": 1}, {}))

    def put_writes(self, thread, id, task, values):
        self._run(self.saver.aput_writes(config_of(thread, id), [("value", value) for value in values], task))

    def delete_thread(self, thread):
        self._run(self.saver.adelete_thread(thread))

    def all(self):
        async def listed():
            return [one async for one in self.saver.alist(None)]

        return self._run(listed())

    def written(self):
        async def read():
            return await (await self._connection.execute(WRITES)).fetchall()

        return self._run(read())

    def _run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def close(self):
        if self._connection is not None:
            self._run(self._connection.close())
        self._loop.close()


class AsyncCheckpoints(Checkpoints):
    title = "langgraph-checkpoint-sqlite: AsyncSqliteSaver"
    depths = ("vfs",)

    def make(self, path, configuration, environment):
        return AsyncSaver(path)
