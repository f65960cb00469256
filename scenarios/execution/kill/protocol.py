"""The job that a child process runs before it is killed, stored on disk first; and the log that the child writes.

A *job* is a list of calls and the plan that kills. It is written and synced in its own directory before the child
starts it: whatever happens to the child, or to the harness, the job is known. In the same directory the child logs,
synced line by line, each call that it begins, each answer *after* the call has returned, and the fault that is about to
kill it. A logged answer counts as acknowledged to the caller.
"""

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.scenarios.model.as_json import for_a_file
from tornpage.scenarios.model.target import Action, Configuration

JOB: Final = "job.json"
EVENTS: Final = "told.jsonl"
COMPLAINTS: Final = "stderr.txt"
# The child has failed by itself; its standard error has the reason.
FAILED: Final = 70
# A request is the name of a directory, which may contain any byte but this.
END_OF_REQUEST: Final = b"\0"


class Timed(msgspec.Struct, frozen=True):
    """A call, and the step of the clock at which it is made; `OPEN` and `CLOSE` are calls, too."""

    step: int
    action: Action


class Job(msgspec.Struct, frozen=True):
    """The job of one process: the calls in order, in a store below `home`.

    `plan` is in force from call number `armed_from` up to (not including) `armed_until`, counted from 0; without a plan
    nothing is armed. A process that has made all calls kills itself if `dies_at_the_end`, else it ends.
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
    """Call number `call` has returned: "done", "refused" or "raised"; `detail` is the error with its traceback.

    `value` is what it returned, as data; `compared` is False if the target excludes it from comparison.
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
    """Create the directory and write the job into it, both synced; raises OSError."""
    directory.mkdir(parents=True)
    descriptor = os.open(directory / JOB, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(job, enc_hook=for_a_file) + b"\n")
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
    """Read the job in a directory."""
    return msgspec.json.decode((directory / JOB).read_bytes(), type=Job)


class JobLog:
    """The child's log; each line is synced before anything else is done."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        # A synced file is lost if its directory entry is.
        _sync_directory(directory)

    def write(self, event: JobEvent) -> None:
        """Write a line and sync it."""
        os.write(self._descriptor, msgspec.json.encode(event) + b"\n")
        os.fsync(self._descriptor)


def job_events(directory: Path) -> list[JobEvent]:
    """The child's log; a last line that its death has cut off is ignored."""
    try:
        lines = (directory / EVENTS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [_decode(line) for line in lines[:-1]]


# -- reports of the supervisor ---------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The target is loaded."""

    pid: int


class Unable(msgspec.Struct, frozen=True, tag="unable"):
    """The target can't be loaded: why."""

    reason: str


class Born(msgspec.Struct, frozen=True, tag="born"):
    """The child of the job has started."""

    pid: int


class Died(msgspec.Struct, frozen=True, tag="died"):
    """The child has ended; `status` is the result of waitpid."""

    pid: int
    status: int


Report = Ready | Unable | Born | Died
