"""A COMMIT that meets a reader makes a channel of the SQLAlchemy transport useless for good.

Expected: a get that failed changed nothing, and the next get and put work.
Fix: roll back and raise in `_get`, as `_put` does.
"""

import sqlite3
import tempfile
from pathlib import Path

import kombu

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "broker.sqlite")
    options = {"connect_args": {"timeout": 0.1}}
    with kombu.Connection(f"sqla+sqlite:///{path}", transport_options=options) as connection:
        queue = connection.SimpleQueue("q")
        queue.put("a")
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM kombu_message").fetchall()
        for what in ("a get beside a reader", "a get when the reader is gone", "a put when the reader is gone"):
            try:
                print(what + ":", queue.put("b") if "put" in what else queue.get(block=False).payload)
            except Exception as error:
                print(what + ":", type(error).__name__, str(error).partition("\n")[0])
            if reader.in_transaction:
                reader.execute("ROLLBACK")
        reader.close()
