"""A transaction that is left by an exception is committed as far as it came: an item without its fields.

Expected: what is done in a transaction that an exception leaves is rolled back.
Fix: roll back in `Transaction.__exit__` where there is an exception, and commit only where there is none.
"""

import contextlib
import os
import signal
import sqlite3
import tempfile
from pathlib import Path

os.environ["BEETSDIR"] = "/nonexistent"

from beets.library import Item, Library

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "library.db")
    with contextlib.redirect_stdout(None):  # It tells of its backups.
        library = Library(path, directory=directory)
    try:
        # Whatever fails in the middle does: a full disk, Ctrl-C, here a value that SQLite does not take.
        library.add(Item(title="one", year=2**70))
    except OverflowError as error:
        print("an item can't be added:", error)
    library._close()
    print("the library has:", sqlite3.connect(path).execute("SELECT id, title FROM items").fetchall())
    with contextlib.redirect_stdout(None):  # It tells of its backups.
        library = Library(path, directory=directory)
    try:
        with library.transaction() as transaction:
            transaction.mutate("INSERT INTO items (title) VALUES ('two')")
            os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("Ctrl-C in a transaction")
    library._close()
    print("the library has:", sqlite3.connect(path).execute("SELECT id, title FROM items").fetchall())
