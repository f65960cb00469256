"""A program under test as a process: it is started, sent requests, limited in time, and ended.

Each process runs in a session of its own, so that only the harness receives a Ctrl-C; closing its standard input tells
it to end, and it is killed with all its children if it does not. Its standard error is kept and quoted when it fails.

A program that violates the protocol raises `ProgramError` with its output and the error: `DiedError`, `HungError`,
`GarbledError`.
"""

import contextlib
import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Final

import msgspec

from tornpage.scenarios.targets.process.protocol import PROTOCOL, Answer, Describe, Description, Done, Request

_LONGEST_LINE_BYTES: Final = 16 * 1_048_576
_ENDS_WITHIN_S: Final = 2.0
_QUOTED_BYTES: Final = 400
# A started program that does nothing for so long waits for input that does not come.
_IDLE_S: Final = 0.75

# Linux: the flag of a process that is about to end, and whose files may be closed already.
_PF_EXITING: Final = 0x4

_decode = msgspec.json.Decoder(Answer).decode


class ProgramError(Exception):
    """A program that violates the protocol."""

    # No caller got an answer, so no answer hides anything: other checks judge the missing answer.
    is_no_answer = True


class DiedError(ProgramError):
    """The process ended instead of answering; `status` as `subprocess` gives it."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class HungError(ProgramError):
    """No answer within the limit; the process has been killed."""


class GarbledError(ProgramError):
    """Its standard output is not an answer; the process has been killed."""


class Program:
    """One process of a program. Raises `ProgramError` if it can't be started, or violates the protocol."""

    def __init__(self, command: tuple[str, ...], answers_within_s: float) -> None:
        self.command = command
        self.answers_within_s = answers_within_s
        # One of its child processes may do the I/O.
        self.pid = 0
        # How many lines it has answered.
        self.answers = 0
        self._buffer = b""
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command, and no shell
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
                start_new_session=True, bufsize=0, umask=0o077,
            )  # fmt: skip
        except OSError as error:
            self._complaints.close()
            raise ProgramError(_not_started(command, error)) from error
        try:
            self.description = self._described()
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether the process runs, also the one that does its I/O, and has followed the protocol so far."""
        return not self._complaints.closed and self._process.poll() is None and not self._has_lost_its_worker()

    @property
    def pids(self) -> set[int]:
        """The process that was started, and the one that does the I/O."""
        return {self._process.pid, self.pid}

    @property
    def answers_to(self) -> int:
        """The descriptor of the pipe that its answers come through."""
        return self._output

    def ask(self, request: Request) -> Answer:
        """Send a request and wait for its answer; raises `ProgramError`, and then the process has ended."""
        try:
            return self._ask(request)
        except BaseException:
            # An interrupt, too: the answer to this request must not be taken for that to the next one. A program that
            # still owes its answer does not end by itself.
            self._kill()
            self.end()
            raise

    def end(self) -> None:
        """Let the process end by itself, for a moment, and then kill it and its children."""
        if self._complaints.closed:
            return
        with self._process as process:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            try:
                process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._kill()
        self._complaints.close()

    # -- talking -------------------------------------------------------------------------------------------

    def _described(self) -> Description:
        answer = self._ask(Describe())
        if not isinstance(answer, Done) or answer.description is None:
            raise GarbledError(f"{self._name} was asked to describe itself, and answered {_shown(answer)}")
        if answer.protocol != PROTOCOL:
            raise ProgramError(
                f"{self._name} speaks protocol {answer.protocol}, this tornpage speaks {PROTOCOL}: "
                f'answer "describe" with "protocol": {PROTOCOL}, see docs/any-language.md'
            )
        self.pid = answer.pid or self._process.pid
        self.answers_within_s = answer.description.answers_within_s
        return answer.description

    def _ask(self, request: Request) -> Answer:
        asked = str(msgspec.to_builtins(request)["do"])
        if self._process.stdout is None or self._process.stdout.closed:
            raise self._died(asked)
        self._require_silence(asked)
        if self._process.stdin is not None:
            # A process that has ended does not answer, either: report its end.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(msgspec.json.encode(request) + b"\n")
        line = self._line(asked)
        if self._has_lost_its_worker():
            # What answers has lost the store: for it, that is a death like any other.
            message = f'{self._name}: process {self.pid}, which does its I/O, ended instead of answering "{asked}"'
            raise DiedError(message, 0)
        try:
            answer: Answer = _decode(line)
        except msgspec.ValidationError as error:
            self._kill()
            message = f'{self._name} answered "{asked}" with {_quoted(line)}, which is not a valid answer: {error}'
            raise GarbledError(message) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._garbled(line, f'in answer to "{asked}" ({error})') from error
        return answer

    @property
    def _output(self) -> int:
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        return self._process.stdout.fileno()

    def _require_silence(self, asked: str) -> None:
        """Output before the request is not its answer; raises `DiedError`, `GarbledError`."""
        if not self._buffer and select.select([self._output], [], [], 0)[0]:
            self._buffer = os.read(self._output, 65_536)
            if not self._buffer:
                raise self._died(asked)
        if self._buffer:
            raise self._garbled(self._buffer, f'before it was asked to "{asked}"')

    def _line(self, asked: str) -> bytes:
        """The next line; raises `HungError`, `DiedError`, `GarbledError`."""
        began = time.monotonic()
        is_patient = asked == "describe" and self.answers_within_s > 2 * _IDLE_S
        if is_patient and not select.select([self._output], [], [], _IDLE_S)[0]:
            self._require_at_work()
        until = began + self.answers_within_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._output], [], [], max(until - time.monotonic(), 0))
            if not ready:
                self._kill()
                raise HungError(
                    f'{self._name} did not answer "{asked}" within {self.answers_within_s:g} s (is each line of its '
                    f"standard output flushed?){self._complained()}"
                )
            received = os.read(self._output, 65_536)
            if not received:
                raise self._died(asked)
            self._buffer += received
            if len(self._buffer) > _LONGEST_LINE_BYTES:
                raise self._garbled(self._buffer, f"without an end, {len(self._buffer):,} bytes so far")
        line, _, self._buffer = self._buffer.partition(b"\n")
        self.answers += 1
        return line

    def _require_at_work(self) -> None:
        """A starting runtime is busy; raises `HungError` if nothing has happened since it read its request."""
        before = _spent(self._process.pid)
        if any(name.startswith("socket:") for name in _open_in(self._process.pid)):
            # A client of something that starts elsewhere, such as a container.
            return
        if select.select([self._output], [], [], _IDLE_S)[0] or before is None or _spent(self._process.pid) != before:
            return
        self._kill()
        raise HungError(
            f'{self._name} has not answered "describe" after {2 * _IDLE_S:g} s, and is idle: does it read lines '
            f"from its standard input, and flush each line of its standard output?{self._complained()}"
        )

    def _has_lost_its_worker(self) -> bool:
        """Whether another process than the one that was started does the I/O, and has ended."""
        return self.pid not in (0, self._process.pid) and _has_ended(self.pid)

    # -- errors --------------------------------------------------------------------------------------------------

    def _died(self, asked: str) -> DiedError:
        try:
            status = self._process.wait(_ENDS_WITHIN_S / 2)
        except subprocess.TimeoutExpired:
            self._kill()
            return DiedError(f'{self._name} closed its standard output when it was asked to "{asked}"', 0)
        how = f"exit code {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
        return DiedError(f'{self._name} ended ({how}) instead of answering "{asked}"{self._complained()}', status)

    def _garbled(self, line: bytes, when: str) -> GarbledError:
        self._kill()
        return GarbledError(
            f"{self._name} wrote {_quoted(line)} to its standard output {when}; that is for answers alone, "
            f"one JSON object a line: write everything else to standard error{self._complained()}"
        )

    def _complained(self) -> str:
        """The end of its standard error, "" if that is closed already."""
        if self._complaints.closed:
            return ""
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(size - _QUOTED_BYTES, 0))
        said = self._complaints.read().decode(errors="replace").strip()
        return f"; its standard error ends: {said}" if said else ""

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def _name(self) -> str:
        return shlex.join(self.command)


def _spent(process: int) -> tuple[str, ...] | None:
    """The CPU time that a process and its children have used, and its reads; None if unknown."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return None
    # The state, page faults, and the times of the process and of children that have ended.
    return (fields[0], *fields[7:15], children)


def _has_ended(process: int) -> bool:
    """Whether a process has ended, or is about to; False where the system doesn't tell."""
    if not Path("/proc/self/stat").exists():
        return False
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return state in "ZX" or bool(int(fields[5]) & _PF_EXITING)


def _open_in(process: int) -> list[str]:
    """The open files of a process, under the system's names."""
    found = []
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(descriptor))  # noqa: PTH115 - a pipe has no path
    return found


def _not_started(command: tuple[str, ...], error: OSError) -> str:
    program = command[0]
    advice = {
        FileNotFoundError: "is there such a program, and does the path hold from this directory?",
        PermissionError: "make it executable (chmod +x), or name its interpreter before it",
    }.get(type(error), "a script needs a first line such as #!/usr/bin/env node, or its interpreter named before it")
    return f"{program!r} can't be started ({error.strerror}): {advice}"


def _quoted(line: bytes) -> str:
    shown = line.partition(b"\n")[0]
    text = repr(shown[:80].decode(errors="replace"))
    return text if len(shown) <= 80 else f"{text} and more"


def _shown(answer: Answer) -> str:
    return msgspec.json.encode(answer).decode()[:200]
