"""A cache whose first opening fails can't be used any more, also when what was in the way is gone.

Expected: a write works when what was in the way is gone.
Fix: make a new connection when awaiting it has failed.
"""

import asyncio
import tempfile
from pathlib import Path

from aiohttp_client_cache.backends.sqlite import SQLiteCache


async def main(path):
    path.mkdir()
    cache = SQLiteCache(str(path), "responses")
    for attempt in ("with a directory in the way", "with nothing in the way"):
        try:
            await cache.write("key", "value")
            print(attempt + ":", await cache.read("key"))
        except Exception as error:
            print(attempt + ":", repr(error))
        if path.is_dir():
            path.rmdir()


with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(Path(directory, "cache.sqlite")))
