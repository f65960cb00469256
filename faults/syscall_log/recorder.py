"""strace on a running process, for a tape: what the process changes below the tape's directory is written down there.

Method. strace's lines are translated when somebody asks for the tape: up to the answer that the process has given last,
which stands among them, since an answer is a ``write`` to a pipe like any other. So the tape's length at an answer is
exactly what was done before its caller heard it; what comes after it belongs to what comes next.
"""

import os
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from tornpage.faults.strace import SyscallsUnavailableError
from tornpage.faults.syscall_log.lines import Lines
from tornpage.faults.syscall_log.stream import LogStream
from tornpage.faults.syscall_log.translator import FOLLOWED, Translator
from tornpage.faults.vfs.operation_log import Tape

_SPEAKS_WITHIN_S: Final = 10.0
_LONGEST_TEXT_BYTES: Final = 64 * 1_048_576


class OperationRecorder:
    """Writes what a process does on a tape until `detach`. Raises `SyscallsUnavailableError`, `NotTranslatedError`.

    `answers_to` is a descriptor of ours of the pipe that the process answers to, `base` the files at the tape's
    beginning.
    """

    def __init__(self, process: int, tape: Tape, answers_to: int, base: Mapping[str, bytes] | None = None) -> None:
        pipe = f"pipe:[{os.fstat(answers_to).st_ino}]"
        _require_answering(process, pipe)
        self._translator = Translator(tape, process, pipe, base)
        self._lines = Lines()
        self._read: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._rest = b""
        self._waiting: list[str] = []
        self._is_over = False
        arguments = ["-f", "-y", "-xx", "-s", str(_LONGEST_TEXT_BYTES), "-e", "signal=none"]
        arguments += ["-e", "trace=" + ",".join(f"?{call}" for call in FOLLOWED)]
        self._stream = LogStream(process, arguments, self._read.put)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def follow(self, answers: int) -> None:
        """Bring the tape up to the answer of that number since the beginning; further, if it was asked for before."""
        while self._translator.answers < answers and not self._is_over:
            self._take_line()

    def detach(self) -> None:
        """Let go of the process, and bring the tape up to all that it has done. A second time it does nothing."""
        self._stream.end()
        while not self._is_over:
            self._take_line()

    def _take_line(self) -> None:
        """Translate the next line, or wait for it."""
        if not self._waiting:
            self._waiting = self._next_lines()
            return
        call = self._lines.read(self._waiting.pop())
        if call is not None:
            self._translator.take(call, self._lines.unfinished)

    def _next_lines(self) -> list[str]:
        """The lines that have come since, the newest one first."""
        try:
            read = self._read.get(timeout=_SPEAKS_WITHIN_S)
        except queue.Empty:
            raise SyscallsUnavailableError("strace says nothing of an answer that was given") from None
        self._is_over = not read
        whole, _, self._rest = (self._rest + read).rpartition(b"\n")
        return whole.decode(errors="replace").split("\n")[::-1] if whole else []


def _require_answering(process: int, pipe: str) -> None:
    """Raise `SyscallsUnavailableError` where another process than the one that does the I/O gives the answers."""
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            if os.readlink(descriptor) == pipe:  # noqa: PTH115 - a pipe has no path
                return
        except OSError:
            continue
    raise SyscallsUnavailableError(
        f"process {process} does the I/O, and another one answers: when a change was made and when it was answered "
        "does not stand in one log; let one process do both"
    )
