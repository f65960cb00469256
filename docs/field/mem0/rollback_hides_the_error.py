"""Each change sends ROLLBACK where SQLite has rolled back by itself: the caller hears of that, and not of the disk.

Expected: the caller gets the error of the disk.
Fix: send ROLLBACK only where `connection.in_transaction`.
"""

import resource
import signal
import tempfile
from pathlib import Path

from mem0.memory.storage import SQLiteManager

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "history.db")
    manager = SQLiteManager(str(path))
    # From here on no file may grow, as on a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, resource.RLIM_INFINITY))
    try:
        manager.add_history("id", None, "x" * 100_000, "ADD")
    except Exception as error:
        print("what the caller gets:", repr(error))
        print("what had happened:", repr(error.__context__))
