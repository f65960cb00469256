"""A value that could not be written stays in the namespace's memory: it is answered, and saved by the next change.

Expected: a value that could not be written is not answered.
Fix: forget what was loaded where `do_close` raises.
"""

import sqlite3
import tempfile
from pathlib import Path

from beaker.cache import Cache
from beaker.ext.database import DatabaseNamespaceManager

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "beaker.sqlite")
    options = {
        "type": "ext:database",
        "url": f"sqlite:///{path}",
        "lock_dir": directory,
        "sa_opts": {"sa.connect_args": {"timeout": 0.1}},
    }
    cache = Cache("one", **options)
    cache.put("a", "old")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM beaker_cache").fetchall()
    try:
        cache.put("a", "new")
    except Exception as error:
        print("put fails:", str(error).partition("\n")[0])
    reader.execute("ROLLBACK")
    print("this process answers:", cache.get("a"))
    DatabaseNamespaceManager.tables.dict.clear()
    print("another process answers:", Cache("one", **options).get("a"))
    reader.close()
