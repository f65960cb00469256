"""A response that could not be written is taken for saved: no error, and it is not there.

Expected: an error, a warning in the log, or a word in the documentation.
Fix: raise again after the rollback, or say that errors of writing are left out.
"""

import resource
import signal
import tempfile
from pathlib import Path

from requests_cache.backends.sqlite import SQLiteDict

with tempfile.TemporaryDirectory() as directory:
    cache = SQLiteDict(Path(directory, "http_cache.sqlite"), serializer=None)
    cache["small"] = "x"
    # From here on no file may grow, as on a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = Path(directory, "http_cache.sqlite").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    cache["large"] = "x" * 100_000
    print("no error was raised, and the value is", "there" if "large" in cache else "not there")
