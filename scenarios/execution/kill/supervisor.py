"""The harness's side of real kills: starts the program that is killed, sends jobs, and receives each child's end.

One supervisor serves one target for as long as it is open (see `scenarios.execution.kill.worker`). It runs in a session
of its own, so that only the harness receives a Ctrl-C, which then closes it; when the harness itself is killed, the
supervisor's input closes, and it ends with its child.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from tornpage.faults.child_processes import belongs_to_the_harness
from tornpage.scenarios.execution.kill.protocol import (
    COMPLAINTS,
    END_OF_REQUEST,
    FAILED,
    Answered,
    Begun,
    Born,
    Died,
    Fired,
    Job,
    JobEvent,
    Ready,
    Report,
    Unable,
    job_events,
    write_job,
)
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import TargetError

_STARTS_WITHIN_S: Final = 60.0
_LIVES_AT_MOST_S: Final = 60.0
_ENDS_WITHIN_S: Final = 5.0


class ExitStatus(msgspec.Struct, frozen=True):
    """How a child ended: `status` as waitpid gives it, and all events it logged by then."""

    job: Job
    status: int
    events: tuple[JobEvent, ...]

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def fired(self) -> Fired | None:
        """The operation in which the plan killed it; None if the plan did not."""
        return next((one for one in self.events if isinstance(one, Fired)), None) if self.killed else None

    @property
    def answers(self) -> tuple[Answered, ...]:
        """The answers that its caller got, in order."""
        return tuple(one for one in self.events if isinstance(one, Answered))

    def require_no_failure(self, *, restarted: bool) -> None:
        """Raise `TargetError` if a call failed although only a kill was armed.

        In a process that was `restarted` on the files of a crash, that is a `Violation`.
        """
        failed = next((one for one in self.answers if one.kind == "raised"), None)
        if failed is None:
            return
        action, detail = self.job.calls[failed.call].action, failed.detail.strip()
        if restarted:
            said = detail.splitlines()[-1]
            raise Violation("still-usable-after-the-fault", f"in a process started again, {action} fails: {said}")
        raise TargetError(f"in another process, and before it was killed, {action} fails:\n{detail}")

    @property
    def pending(self) -> int | None:
        """The number of the call that began and never returned."""
        begun = [one.call for one in self.events if isinstance(one, Begun)]
        return begun[-1] if len(begun) > len(self.answers) else None


class Supervisor:
    """A context manager; `run` sends one job. `journal` is the directory of the jobs that are running.

    Raises `TargetError` if the target can't be loaded in another process, ends it by itself, or hangs.
    """

    def __init__(self, target_name: str, journal: Path) -> None:
        if not hasattr(os, "fork"):
            raise TargetError("real kills need os.fork and SIGKILL, which this system has not; try tornpage crash")
        self.target_name = target_name
        self.journal = journal
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def run(self, job: Job) -> ExitStatus:
        """Write the job down, have a child run it, and wait for its end."""
        process = self._started()
        directory = self.journal / f"{next(self._numbers):06}"
        write_job(job, directory)
        try:
            self._ask(process, directory)
            born = self._hear(_STARTS_WITHIN_S)
            died = self._hear(_LIVES_AT_MOST_S) if isinstance(born, Born) else born
        except BaseException:
            # An interrupt, or a child that hangs: the answer to this job must not be taken for the next one's.
            self.close()
            raise
        if not isinstance(died, Died):
            raise TargetError(f"the process that runs {self.target_name} has ended: {self._complaints()}")
        exit_status = ExitStatus(job, died.status, tuple(job_events(directory)))
        _require_no_failure(exit_status, directory)
        _remove(directory)
        return exit_status

    def close(self) -> None:
        """End the supervisor, and its child, if any."""
        process, self._process, self._buffer = self._process, None, b""
        if process is None:
            return
        with process:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            try:
                process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()

    # -- talking -------------------------------------------------------------------------------------------

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        self.journal.mkdir(parents=True, exist_ok=True)
        with self._complaints_file.open("wb") as complaints:
            process = self._process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
                [sys.executable, "-m", "tornpage.scenarios.execution.kill.worker", self.target_name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, env=environment_for_children(),
                start_new_session=True, bufsize=0,
            )  # fmt: skip
        belongs_to_the_harness(process.pid)
        try:
            ready = self._hear(_STARTS_WITHIN_S)
        except BaseException:
            self.close()
            raise
        if not isinstance(ready, Ready):
            reason = ready.reason if isinstance(ready, Unable) else self._complaints()
            self.close()
            raise TargetError(f"{self.target_name} can't be loaded in another process: {reason}")
        return process

    def _ask(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        assert process.stdin is not None  # noqa: S101 - it was opened as a pipe
        with contextlib.suppress(BrokenPipeError):  # The supervisor has ended: then no answer comes, either.
            process.stdin.write(os.fsencode(directory.absolute()) + END_OF_REQUEST)

    def _hear(self, within_s: float) -> Report | None:
        """The next report; None if the supervisor has ended. Raises `TargetError` after so many seconds."""
        process = self._process
        if process is None or process.stdout is None:
            return None
        until = time.monotonic() + within_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([process.stdout], [], [], max(until - time.monotonic(), 0))
            if not ready:
                raise TargetError(f"{self.target_name} hangs in its own process: no answer in {within_s:.0f} s")
            received = os.read(process.stdout.fileno(), 65_536)
            if not received:
                return None
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        report: Report = msgspec.json.decode(line, type=Report)
        return report

    @property
    def _complaints_file(self) -> Path:
        return self.journal / COMPLAINTS

    def _complaints(self) -> str:
        return self._complaints_file.read_text(errors="replace").strip() or "it printed nothing"


def environment_for_children() -> dict[str, str]:
    """The environment, with all that this process can import on the path of the other."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(one) for one in sys.path)}  # noqa: PTH100


def _require_no_failure(exit_status: ExitStatus, directory: Path) -> None:
    """Raise `TargetError` if the child ended by anything but SIGKILL or its own last line."""
    if exit_status.killed or exit_status.status == 0:
        return
    said = (directory / COMPLAINTS).read_text(errors="replace").strip()
    how = f"exit code {os.waitstatus_to_exitcode(exit_status.status)}"
    if os.WIFEXITED(exit_status.status) and os.WEXITSTATUS(exit_status.status) == FAILED:
        how = "an error of its own"
    raise TargetError(f"the process that was to be killed ended with {how}:\n{said or 'it printed nothing'}")


def _remove(directory: Path) -> None:
    for entry in directory.iterdir():
        entry.unlink()
    directory.rmdir()


@contextlib.contextmanager
def journal_below(report: Path | None, directory: Path) -> Iterator[Path]:
    """A directory for jobs that no other run uses: below the report's, on disk, or else below `directory`.

    It is removed at the end; if the harness itself is killed, its contents stay, and show the job that was running.
    """
    with contextlib.ExitStack() as scope:
        yield Path(scope.enter_context(_temporary(directory if report is None else report, directory)))


def _temporary(home: Path, otherwise: Path) -> "tempfile.TemporaryDirectory[str]":
    try:
        home.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="kill-", dir=home)
    except OSError:
        # As with replay files: a report that can't be written stops no search.
        return tempfile.TemporaryDirectory(prefix="kill-", dir=otherwise)
