"""atomic() sends ROLLBACK where SQLite has rolled back by itself, and raises that error in the place of the disk's.

Expected: the caller gets the error of the disk.
Fix: send ROLLBACK only where `connection.in_transaction`.
"""

import resource
import signal
import tempfile
from pathlib import Path

import peewee

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "items.db")
    # A cache of 10 pages, so that a transaction of any size meets the disk before its COMMIT.
    database = peewee.SqliteDatabase(path, pragmas={"cache_size": 10})

    class Item(peewee.Model):
        value = peewee.TextField()

        class Meta:
            database = database

    database.connect()
    database.create_tables([Item])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        with database.atomic():
            for _ in range(100):
                Item.create(value="x" * 3_000)
    except peewee.OperationalError as error:
        print("what the caller gets:", error)
        while error.__context__ is not None:
            error = error.__context__
        print("what had happened:", error)
