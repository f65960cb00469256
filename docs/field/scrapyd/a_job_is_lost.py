"""A COMMIT that meets a reader leaves a message half taken: the next pop takes another, and the first is gone.

Expected: a message whose pop failed is popped by the next one.
Fix: roll back where a statement or `commit()` raises; BEGIN IMMEDIATE in pop().
"""

import sqlite3
import tempfile
from pathlib import Path

from scrapyd.sqlite import JsonSqlitePriorityQueue

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "project.db")
    queue = JsonSqlitePriorityQueue(str(path), "spider_queue")
    queue.conn.execute("PRAGMA busy_timeout = 100")  # Rather than five seconds.
    queue.put({"name": "one"})
    queue.put({"name": "two"})
    # Another process that reads: Scrapyd's own API beside its poller, a backup.
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM spider_queue").fetchall()
    try:
        print("pop beside a reader:", queue.pop())
    except sqlite3.OperationalError as error:
        print("pop beside a reader:", error)
    reader.execute("ROLLBACK")
    reader.close()
    print("pop when the reader is gone:", queue.pop())
    print("pop:", queue.pop())
