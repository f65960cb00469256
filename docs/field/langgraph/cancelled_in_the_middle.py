"""A cancelled call of AsyncSqliteSaver leaves its transaction open: others are locked out, half is committed later.

Expected: a cancelled call changed nothing, and holds no lock.
Fix: roll back, shielded from a second cancellation, where anything is raised between the first statement and the end
    of `commit()`.
"""

import asyncio
import sqlite3
import tempfile
from pathlib import Path

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver


def config(thread):
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": "1"}}


async def main(path):
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        kept = await saver.aput(config("one"), empty_checkpoint(), {}, {})
        await saver.aput_writes(kept, [("value", "a")], "task")
        # Cancelled as by a timeout, or a client that is gone, while its first statement runs.
        task = asyncio.create_task(saver.adelete_thread("one"))
        while not saver.conn.in_transaction:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        print("cancelled:", task.cancelled())
        other = sqlite3.connect(path, timeout=0.1)
        try:
            other.execute("DELETE FROM writes WHERE thread_id = 'two'")
        except sqlite3.OperationalError as error:
            print("another process can't write:", error)
        await saver.aput(config("two"), empty_checkpoint(), {}, {})
        for table in ("checkpoints", "writes"):
            rows = other.execute(f"SELECT count(*) FROM {table} WHERE thread_id = 'one'").fetchone()
            print(f"rows of the thread in {table}, after the next call:", *rows)
        other.close()


with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(Path(directory, "checkpoints.sqlite")))
