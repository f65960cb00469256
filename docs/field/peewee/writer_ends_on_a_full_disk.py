"""An INSERT … RETURNING that meets a full disk ends the writer thread: it, and every write after it, is waited for.

Expected: the error is raised to the caller, and the next write works.
Fix: fetch the rows inside the `try` of `Writer.execute`.
"""

import resource
import signal
import tempfile
from pathlib import Path

import peewee
from playhouse.sqliteq import SqliteQueueDatabase


def give_up(*_):
    raise TimeoutError("no answer after 5 seconds")


def attempt(what, call):
    signal.alarm(5)
    try:
        print(what + ":", call())
    except (TimeoutError, peewee.DatabaseError) as error:
        print(what + ":", repr(error))
    signal.alarm(0)


with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "items.db")
    database = SqliteQueueDatabase(path)

    class Item(peewee.Model):
        value = peewee.TextField()

        class Meta:
            database = database

    database.execute_sql("CREATE TABLE item (id INTEGER PRIMARY KEY, value TEXT)").fetchall()
    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    attempt("INSERT … RETURNING", lambda: list(Item.insert(value="x").returning(Item.id).execute()))
    # From here on no file may grow, as on a full disk.
    size = Path(directory, "items.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    attempt("the same on a full disk", lambda: list(Item.insert(value="x").returning(Item.id).execute()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    attempt("a write when there is room again", lambda: Item.create(value="y").id)
