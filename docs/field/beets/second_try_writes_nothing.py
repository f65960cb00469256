"""`store()` takes a field for stored before it is: where it fails, doing it again says nothing and writes nothing.

Expected: `store()` writes the field, or raises.
Fix: remove fields from `_dirty` when the transaction has been committed.
"""

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

os.environ["BEETSDIR"] = "/nonexistent"

from beets.library import Item, Library

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "library.db")
    with contextlib.redirect_stdout(None):  # It tells of its backups.
        library = Library(path, directory=directory)
    library.timeout = 0.1
    library._close()
    library.add(item := Item(title="one", artist="old"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    item.artist = "new"
    try:
        item.store()
    except sqlite3.OperationalError as error:
        print("store() beside another writer:", error)
    other.execute("ROLLBACK")
    print("store() when that is gone:", item.store())
    print("the item in memory has:", item.artist)
    print("the library has:", other.execute("SELECT artist FROM items").fetchone()[0])
    other.close()
