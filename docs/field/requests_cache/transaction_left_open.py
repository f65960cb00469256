"""After an error that is no OperationalError the transaction stays open, and the next write never returns.

Expected: the error is raised, and the next write works.
Fix: `except BaseException: rollback(); raise`, and try again only for SQLITE_BUSY.
"""

import signal
import sqlite3
import tempfile
from pathlib import Path

from requests_cache.backends.sqlite import SQLiteDict


def give_up(*_):
    raise TimeoutError("the next write has not returned after 5 seconds")


with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "http_cache.sqlite")
    cache = SQLiteDict(path, serializer=None)
    try:
        cache["wrong"] = object()
    except sqlite3.Error as error:
        print("a value that SQLite doesn't take:", repr(error))
    other = sqlite3.connect(path, timeout=0)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        print("another process that wants to write:", error)
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    try:
        cache["right"] = "x"
    except TimeoutError as error:
        print(error)
