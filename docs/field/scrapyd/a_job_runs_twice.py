"""A COMMIT that meets a reader leaves its INSERT to be committed by the next call: who tries again has it twice.

Expected: a put that failed has put nothing, and holds no lock.
Fix: roll back where a statement or `commit()` raises.
"""

import sqlite3
import tempfile
from pathlib import Path

from scrapyd.sqlite import JsonSqlitePriorityQueue

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "project.db")
    queue = JsonSqlitePriorityQueue(str(path), "spider_queue")
    queue.conn.execute("PRAGMA busy_timeout = 100")  # Rather than five seconds.
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM spider_queue").fetchall()
    try:
        queue.put({"name": "one"})
    except sqlite3.OperationalError as error:
        print("put beside a reader:", error)
    reader.execute("ROLLBACK")
    other = sqlite3.connect(path, timeout=0.1)
    try:
        other.execute("INSERT INTO spider_queue (priority) VALUES (0)")
    except sqlite3.OperationalError as error:
        print("another process, when the reader is gone:", error)
    other.close()
    reader.close()
    queue.put({"name": "one"})
    print("the queue, after put was tried again:", [message for message, _ in queue])
