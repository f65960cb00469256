"""A Ctrl-C in delete_thread commits the half of it that is done: the checkpoints are gone, their writes stay.

Expected: a call that failed changed nothing.
Fix: commit only where nothing was raised, and roll back otherwise, in `SqliteSaver.cursor`.
"""

import signal
import sqlite3
import tempfile
from pathlib import Path

from langgraph.checkpoint.sqlite import SqliteSaver

_MANY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) INSERT INTO "

with tempfile.TemporaryDirectory() as directory:
    connection = sqlite3.connect(Path(directory, "checkpoints.sqlite"))
    saver = SqliteSaver(connection)
    saver.setup()
    connection.execute(_MANY + "checkpoints (thread_id, checkpoint_id) SELECT 'one', i FROM n")
    connection.execute(
        _MANY + "writes (thread_id, checkpoint_id, task_id, idx, channel) SELECT 'one', i, 't', 0, 'c' FROM n"
    )
    connection.commit()

    def rows():
        return [connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("checkpoints", "writes")]

    print("checkpoints and writes:", rows())
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    # While the first DELETE is at work.
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        saver.delete_thread("one")
    except KeyboardInterrupt:
        print("interrupted; a transaction is open:", connection.in_transaction)
    connection.rollback()
    print("checkpoints and writes:", rows())
