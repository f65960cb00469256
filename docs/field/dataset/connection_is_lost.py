"""A write that fails leaves its transaction open: every later call of the thread fails, reads as well.

Expected: a write that failed changed nothing, and the next call works.
Fix: roll the connection back where a statement, or the commit of an implicit transaction, fails.
"""

import sqlite3
import tempfile
from pathlib import Path

import dataset

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "items.db")
    db = dataset.connect(f"sqlite:///{path}", sqlite_wal_mode=False, engine_kwargs={"connect_args": {"timeout": 0.1}})
    db["items"].insert({"name": "a"})
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM items").fetchall()
    for what in ("a write beside a reader", "a write when the reader is gone", "a read when the reader is gone"):
        try:
            print(what + ":", len(db["items"]) if "read when" in what else db["items"].insert({"name": "b"}))
        except Exception as error:
            print(what + ":", type(error).__name__, str(error).partition("\n")[0])
        if reader.in_transaction:
            reader.execute("ROLLBACK")
    reader.close()
    db.close()
