"""A COMMIT that fails keeps the library's lock: the next use of it, by any thread, waits without end.

Expected: the error is raised, and the library goes on working.
Fix: in `Transaction.__exit__` roll back where `commit()` raises, and release the lock in a `finally`.
"""

import contextlib
import os
import signal
import sqlite3
import tempfile
from pathlib import Path

os.environ["BEETSDIR"] = "/nonexistent"

from beets.library import Item, Library


def give_up(*_):
    raise TimeoutError("no answer after 5 seconds")


with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "library.db")
    with contextlib.redirect_stdout(None):  # It tells of its backups.
        library = Library(path, directory=directory)
    library.timeout = 0.1
    library._close()
    library.add(Item(title="one"))
    # Another program that reads, such as a backup or a second beets.
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM items").fetchall()
    try:
        library.add(Item(title="two"))
    except sqlite3.OperationalError as error:
        print("an item is added beside a reader:", error)
    reader.execute("ROLLBACK")
    reader.close()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    try:
        print("the library when the reader is gone:", [item.title for item in library.items()])
    except TimeoutError as error:
        print("the library when the reader is gone:", error)
