"""Where a table could not be made, every later call of this object fails, also when there is room again.

Expected: a write works once there is room again.
Fix: take the table out of the metadata when its creation fails.
"""

import logging
import resource
import signal
import tempfile
from pathlib import Path

from agno.db.schemas import UserMemory
from agno.db.sqlite import SqliteDb

logging.getLogger("agno").setLevel(logging.CRITICAL + 1)

with tempfile.TemporaryDirectory() as directory:
    db = SqliteDb(db_file=str(Path(directory, "agno.db")), memory_table="memories")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # No file may grow, as on a full disk; then it may.
    for what, most in (("on a full disk", 8_192), ("when there is room again", resource.RLIM_INFINITY)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        try:
            db.upsert_user_memory(UserMemory(memory="x", memory_id="a", user_id="u"))
            print(what + ": works")
        except Exception as error:
            print(what + ":", type(error).__name__, str(error).partition("\n")[0])
