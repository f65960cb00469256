"""What a child process is sent to do before it is killed, on disk before it begins; and what it tells until it dies.

A *job* is a list of calls and the plan that kills. It lies in a directory of its own, synced, before the child is
told where: whatever becomes of the child, or of the harness, what it was doing is known. In the same directory the
child writes down, synced line by line, each call that it begins, each answer *after* the call has returned, and the
fault that is about to kill it. An answer that is there is a caller that was told.
"""

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.scenarios.model.target import Action, Configuration

JOB: Final = "job.json"
EVENTS: Final = "told.jsonl"
COMPLAINTS: Final = "stderr.txt"
# The child has failed by itself, and its standard error says how.
FAILED: Final = 70
# A request is the name of a directory, which may hold anything but this.
END_OF_REQUEST: Final = b"\0"


class Timed(msgspec.Struct, frozen=True):
    """A call, and the step of the clock at which it is made; `OPEN` and `CLOSE` are calls, too."""

    step: int
    action: Action


class Job(msgspec.Struct, frozen=True):
    """What one process does: the calls in order, in a store below `home`.

    `plan` is in force from call number `armed_from` up to (not including) `armed_until`, counted from 0; without a
    plan nothing is armed. A process that has made all calls and lives kills itself if `dies_at_the_end`, else it ends.
    """

    configuration: Configuration
    home: str
    calls: tuple[Timed, ...]
    plan: str | None = None
    armed_from: int = 0
    armed_until: int | None = None
    dies_at_the_end: bool = False


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """Call number `call` is about to be made."""

    call: int


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """Call number `call` has come back: "done", "refused" or "raised"; `detail` is the error, traceback and all.

    `value` is what it returned, as data; `compared` is False where the target does not have it compared.
    """

    call: int
    kind: str
    detail: str = ""
    value: Any = None
    compared: bool = True


class Fired(msgspec.Struct, frozen=True, tag="struck"):
    """The plan's fault hits an operation: its kind, the role and name of the file, the ordinal of the match."""

    fault: str
    kind: str
    role: str
    ordinal: int
    path: str | None


JobEvent = Begun | Answered | Fired
_decode = msgspec.json.Decoder(JobEvent).decode


def write_job(job: Job, directory: Path) -> None:
    """Make the directory and write the job into it, both synced; raises OSError."""
    directory.mkdir(parents=True)
    descriptor = os.open(directory / JOB, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(job) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for one in (directory, directory.parent):
        _sync_directory(one)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_job(directory: Path) -> Job:
    """Read the job that lies in a directory."""
    return msgspec.json.decode((directory / JOB).read_bytes(), type=Job)


class JobLog:
    """Writes down what happens, in the child; each line is synced before anything else is done."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        # What the file holds is worth nothing if its name is lost.
        _sync_directory(directory)

    def write(self, told: JobEvent) -> None:
        """Write a line and sync it."""
        os.write(self._descriptor, msgspec.json.encode(told) + b"\n")
        os.fsync(self._descriptor)


def job_events(directory: Path) -> list[JobEvent]:
    """What the child has told; a last line that was cut off by its death has not been told."""
    try:
        lines = (directory / EVENTS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [_decode(line) for line in lines[:-1]]


# -- what the supervisor tells --------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The target is loaded."""

    pid: int


class Unable(msgspec.Struct, frozen=True, tag="unable"):
    """The target can't be loaded: why."""

    reason: str


class Born(msgspec.Struct, frozen=True, tag="born"):
    """The child of the job has begun."""

    pid: int


class Died(msgspec.Struct, frozen=True, tag="died"):
    """The child has ended; `status` is what waitpid said."""

    pid: int
    status: int


Report = Ready | Unable | Born | Died
