"""aiohttp-client-cache: `SQLiteCache`, the storage of its SQLite backend."""

import asyncio

from aiohttp_client_cache.backends.sqlite import SQLiteCache

from tornpage import Action, Configuration, SimpleTarget


class Cache:
    """The cache with a loop that runs each call to its end."""

    def __init__(self, path):
        self._loop = asyncio.new_event_loop()
        self.cache = SQLiteCache(str(path), "responses")

    def write(self, key, item):
        self.run(self.cache.write(key, item))

    def write_many(self, items):
        async def write():
            async with self.cache.bulk_commit():
                for key, item in items.items():
                    await self.cache.write(key, item)

        self.run(write())

    def delete(self, key):
        self.run(self.cache.delete(key))

    def bulk_delete(self, keys):
        self.run(self.cache.bulk_delete(set(keys)))

    def clear(self):
        self.run(self.cache.clear())

    def items(self):
        async def read():
            return {key: await self.cache.read(key) for key in [one async for one in self.cache.keys()]}

        return self.run(read())

    def run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def close(self):
        self.run(self.cache.close())
        self._loop.close()


class Responses(SimpleTarget):
    title = "aiohttp-client-cache: SQLiteCache"
    configurations = (Configuration("delete", "FULL"),)
    file = "responses.sqlite"
    calls = (
        Action("write", {"key": "a", "item": "1"}),
        Action("write", {"key": "b", "item": "x" * 6_000}),
        Action("write_many", {"items": {"c": "3", "d": "x" * 6_000}}),
        Action("delete", {"key": "a"}),
        Action("bulk_delete", {"keys": ["b", "c"]}),
        Action("clear"),
    )
    beat = Action("write", {"key": "heartbeat", "item": "1"})

    def make(self, path, configuration, environment):
        return Cache(path)

    def view(self, store):
        return store.items()

    def rows(self, connection):
        return dict(connection.execute("SELECT key, value FROM responses").fetchall())
