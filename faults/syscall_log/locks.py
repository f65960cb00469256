"""Observes lock contention of an external program with strace: how often a lock was refused, and how long it slept.

Method. SQLite takes its locks by ``fcntl`` (some builds by ``flock``) on the database and its shared memory. A lock
that another connection holds fails with EAGAIN, and SQLite sleeps by ``nanosleep`` before it retries. With
`skips_sleep` strace ends each sleep at once, so that a busy timeout of minutes expires in milliseconds: time is virtual
for a program that counts its own sleeps. A runtime that sleeps in another way waits in real time.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tornpage.faults.syscall_log.stream import LogStream

_LOCKS: Final = ("fcntl", "flock")
_SLEEPS: Final = ("nanosleep", "clock_nanosleep")
_LINE: Final = re.compile(r"\d+ +(?P<at>\d+\.\d+) (?P<call>\w+)\((?P<rest>.*)")
_SLEPT: Final = re.compile(r"tv_sec=(\d+), tv_nsec=(\d+)")
_SUFFIXES: Final = ("", "-shm", "-wal", "-journal")


class LockWatch:
    """Watches one process until `end`; `on_refusal` is called at the first refusal, on another thread."""

    def __init__(
        self, process: int, database: Path, answers_to: int, on_refusal: Callable[[], None], *, skips_sleep: bool
    ) -> None:
        self.refused = 0
        self.slept_ms = 0.0
        self._files = tuple(f"<{os.path.realpath(database)}{suffix}>" for suffix in _SUFFIXES)
        self._pipe = f"<pipe:[{os.fstat(answers_to).st_ino}]>"
        self._on_refusal = on_refusal
        self._refused_at = self._answered_at = 0.0
        self._rest = b""
        arguments = ["-f", "-y", "-ttt", "-s", "0", "-e", "signal=none"]
        arguments += ["-e", "trace=" + ",".join(f"?{call}" for call in (*_LOCKS, *_SLEEPS, "write", "writev"))]
        if skips_sleep:
            arguments += [part for call in _SLEEPS for part in ("-e", f"inject=?{call}:retval=0")]
        self._stream = LogStream(process, arguments, self._take)

    @property
    def waited_ms(self) -> float:
        """The real time from the first refusal to the program's answer, in milliseconds; 0 if it has not answered."""
        return max(self._answered_at - self._refused_at, 0.0) * 1000 if self._refused_at else 0.0

    def end(self) -> None:
        """Detach from the process; the counts are final then."""
        self._stream.end()

    def _take(self, read: bytes) -> None:
        whole, _, self._rest = (self._rest + read).rpartition(b"\n")
        for line in whole.decode(errors="replace").splitlines():
            if found := _LINE.match(line):
                self._take_line(found["call"], found["rest"], float(found["at"]))

    def _take_line(self, call: str, rest: str, at: float) -> None:
        if call in _SLEEPS:
            if self.refused and (slept := _SLEPT.search(rest)):
                self.slept_ms += int(slept[1]) * 1000 + int(slept[2]) / 1_000_000
        elif call in _LOCKS:
            if ("= -1 EAGAIN" in rest or "= -1 EACCES" in rest) and any(one in rest for one in self._files):
                self.refused += 1
                if self.refused == 1:
                    self._refused_at = at
                    self._on_refusal()
        elif self._pipe in rest:
            self._answered_at = at
