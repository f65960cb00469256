"""A COMMIT that meets a reader leaves its transaction open: the cache answers from it and locks out all others.

Expected: a write that failed changed nothing, and holds no lock.
Fix: roll back when a statement or `commit()` raises.
"""

import asyncio
import sqlite3
import tempfile
from pathlib import Path

from aiohttp_client_cache.backends.sqlite import SQLiteCache


async def main(path):
    cache = SQLiteCache(str(path), "responses", timeout=0.1)
    await cache.write("key", "old")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM responses").fetchall()
    try:
        await cache.write("key", "new")
    except sqlite3.OperationalError as error:
        print("the write fails:", error)
    reader.execute("ROLLBACK")
    print("the cache answers:", await cache.read("key"))
    other = sqlite3.connect(path, timeout=0.1)
    try:
        print("another process answers:", other.execute("SELECT value FROM responses").fetchall())
    except sqlite3.OperationalError as error:
        print("another process can't even read:", error)
    other.close()
    reader.close()
    await cache.close()
    print("the next process answers:", sqlite3.connect(path).execute("SELECT value FROM responses").fetchall())


with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(Path(directory, "cache.sqlite")))
