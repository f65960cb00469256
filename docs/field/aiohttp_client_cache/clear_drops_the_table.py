"""clear() drops the table, and its VACUUM finds no room: from then on every call of this cache fails.

Expected: where clear() fails the cache is as before, or empty; the next call works.
Fix: DELETE instead of DROP, or make the table again before VACUUM.
"""

import asyncio
import resource
import signal
import tempfile
from pathlib import Path

from aiohttp_client_cache.backends.sqlite import SQLiteCache


async def main(path):
    cache, other = SQLiteCache(str(path), "responses"), SQLiteCache(str(path), "others")
    await cache.write("key", "value")
    for number in range(100):
        await other.write(f"key {number}", "x" * 10_000)
    await other.close()
    # From here on there is no room for a copy of the database, which is what VACUUM makes.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
    try:
        await cache.clear()
    except Exception as error:
        print("clear:", repr(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for what, call in (("write", cache.write("key", "value")), ("read", cache.read("key")), ("clear", cache.clear())):
        try:
            print(what + ", when there is room again:", await call)
        except Exception as error:
            print(what + ", when there is room again:", repr(error))
    await cache.close()


with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(Path(directory, "cache.sqlite")))
