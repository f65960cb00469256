"""Runs strace on a process, and streams its log.

A thread empties the pipe, so that strace never blocks the process.
"""

import os
import signal
import threading
from collections.abc import Callable, Sequence

from tornpage.faults.strace import start_strace


class LogStream:
    """Passes the log to `take` as it arrives, on a separate thread; b"" is the end.

    Raises `SyscallsUnavailableError`.
    """

    def __init__(self, process: int, arguments: Sequence[str], take: Callable[[bytes], None]) -> None:
        self._take = take
        ours, theirs = os.pipe()
        try:
            self._strace = start_strace(process, [*arguments, "-o", f"/dev/fd/{theirs}"], (theirs,))
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._thread = threading.Thread(target=self._empty, args=(ours,), name="tornpage-strace", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Detach from the process; `take` has then received the whole log. A second call has no effect."""
        if self._strace.stderr is None or self._strace.stderr.closed:
            return
        with self._strace as strace:
            if strace.poll() is None:
                strace.send_signal(signal.SIGINT)
            strace.wait()
        self._thread.join()

    def _empty(self, pipe: int) -> None:
        with open(pipe, "rb", buffering=0) as log:
            while read := log.read(1_048_576):
                self._take(read)
        self._take(b"")
