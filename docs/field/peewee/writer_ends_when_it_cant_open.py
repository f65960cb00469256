"""Where the writer thread can't open its connection it ends, and every write is waited for without end.

Expected: the error is raised to the caller.
Fix: hand the error to what is in the queue.
"""

import signal
import tempfile
import threading
from pathlib import Path

from playhouse.sqliteq import SqliteQueueDatabase


def give_up(*_):
    raise TimeoutError("no answer after 5 seconds")


threading.excepthook = lambda told: print("the writer thread ends:", repr(told.exc_value))
with tempfile.TemporaryDirectory() as directory:
    database = SqliteQueueDatabase(Path(directory, "missing", "items.db"))
    database._writer.join()
    Path(directory, "missing").mkdir()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    try:
        database.execute_sql("CREATE TABLE item (id INTEGER PRIMARY KEY)").fetchall()
    except TimeoutError as error:
        print("a write, when the directory is there:", error)
