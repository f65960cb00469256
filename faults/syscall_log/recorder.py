"""Records the changes of a running process below a tape's directory on the tape, with strace.

Method. strace's lines are translated on request (`follow`), up to the process's latest answer. The answer is in the
log, since it is a ``write`` to a pipe. So the tape's length at an answer covers exactly the operations that were done
before the answer; later operations belong to the next call.
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
    """Records a process's operations on a tape until `detach`. Raises `SyscallsUnavailableError`, `NotTranslatedError`.

    `answers_to` is our descriptor of the pipe to which the process writes its answers, `base` the files at the tape's
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
        """Translate up to the answer with this number, counted from the beginning; no effect if that is done."""
        while self._translator.answers < answers and not self._is_over:
            self._take_line()

    def detach(self) -> None:
        """Detach from the process, and translate the rest of the log. A second call has no effect."""
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
        """The new lines of the log, newest first."""
        try:
            read = self._read.get(timeout=_SPEAKS_WITHIN_S)
        except queue.Empty:
            raise SyscallsUnavailableError(
                "strace did not log an answer of the process; the one that does the I/O has to write the answers itself"
            ) from None
        self._is_over = not read
        whole, _, self._rest = (self._rest + read).rpartition(b"\n")
        return whole.decode(errors="replace").split("\n")[::-1] if whole else []


def _require_answering(process: int, pipe: str) -> None:
    """Raise `SyscallsUnavailableError` if another process than the one that does the I/O writes the answers."""
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            if os.readlink(descriptor) == pipe:  # noqa: PTH115 - a pipe has no path
                return
        except OSError:
            continue
    raise SyscallsUnavailableError(
        f"process {process} does the I/O, and another one answers: one log does not show the order of changes and "
        "answers; let one process do both"
    )
