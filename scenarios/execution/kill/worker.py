"""The program that is killed, started by `scenarios.execution.kill.supervisor` with the target's name as its argument.

It is a fork server: an interpreter that has loaded the target and then only forks a child for each job, so that a kill
costs milliseconds and not an interpreter start. Each child is a separate process that opens the store, makes its calls
and is killed by SIGKILL from within the operation that its plan names. SQLite is not in use before the fork: a
connection must never be carried over one.

It reads names of directories with jobs, and writes `Born`, then `Died`, as lines of JSON. When its input closes, the
harness has ended: it kills its child, and ends.

Not covered: a target whose import starts threads; they don't exist in the child.
"""

import contextlib
import ctypes
import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from tornpage import faults
from tornpage.faults.files import watching
from tornpage.scenarios.execution.in_place import taken_for_dead
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
    JobLog,
    Ready,
    Report,
    Unable,
    read_job,
)
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import NotCompared, as_answer
from tornpage.scenarios.model.target import Action, Refused, Target
from tornpage.scenarios.targets.names import UnknownTargetError
from tornpage.scenarios.targets.registry import find_or_import

_PR_SET_PDEATHSIG: Final = 1


# -- the child ---------------------------------------------------------------------------------------------


class _Announced(faults.PlanInjector):
    """Follows a plan, and logs the fault before it is carried out: afterwards the process is dead."""

    def __init__(self, plan: faults.FaultPlan, job_log: JobLog) -> None:
        super().__init__(plan)
        self._job_log = job_log

    def decide(self, kind: str, role: str, path: str | None) -> faults.Fault | None:
        """Decide, and write."""
        fault = super().decide(kind, role, path)
        if fault is not None:
            self._job_log.write(Fired(str(fault), kind, role, self.fired[-1].ordinal, path))
        return fault


def run_job(target: Target, job: Job, job_log: JobLog) -> None:
    """Make the calls of a job; the plan kills this process, or it returns."""
    plan = None if job.plan is None else faults.FaultPlan.parse(job.plan)
    trial = Trial(target, job.configuration, Path(job.home), {})
    if plan is not None and plan.faults[0].kind in faults.STATEMENT_KINDS:
        trial.watch_statements()
    with faults.install() as shim, shim.deterministic(), contextlib.ExitStack() as armed:
        for number, call in enumerate(job.calls):
            if number == job.armed_until:
                armed.close()
            elif number == job.armed_from and plan is not None:
                armed.enter_context(_in_force(plan, trial, shim, job_log))
            trial.at_step(call.step)
            job_log.write(Begun(number))
            answered = _make(trial, number, call.action)
            job_log.write(answered)
            if answered.kind == "raised":
                break
        # Neither the session is closed nor a scope left: a process that ends does neither.
        _end(job)


def _make(trial: Trial, number: int, action: Action) -> Answered:
    """One call, and its answer. Not `Trial.call`, which drops the traceback."""
    value: object = None
    try:
        value = as_answer(trial.perform(action))
    except Refused as refusal:
        return Answered(number, "refused", str(refusal))
    except Exception:  # noqa: BLE001 - whatever the store raises is its answer
        return Answered(number, "raised", traceback.format_exc())
    compared = not isinstance(value, NotCompared)
    return Answered(number, "done", value=value if compared else None, compared=compared)


def _end(job: Job) -> NoReturn:
    if job.dies_at_the_end:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


@contextlib.contextmanager
def _in_force(plan: faults.FaultPlan, trial: Trial, shim: faults.Shims, job_log: JobLog) -> Iterator[None]:
    """The plan in force at its depth, for the store's files only."""
    injector = _Announced(plan, job_log)
    if plan.faults[0].kind in faults.STATEMENT_KINDS:
        with trial.statements.watching(injector):
            yield
    else:
        on_path = faults.OnPath(injector, trial.directory)
        with shim.watching(on_path), watching(on_path):
            yield


def _be_the_child(target: Target, directory: Path, harness: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        _die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        complaints = os.open(directory / COMPLAINTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(complaints, 1)
        os.dup2(complaints, 2)
        # It has made the earlier calls: its writes are those of a process that has died since.
        with taken_for_dead(harness):
            run_job(target, read_job(directory), JobLog(directory))
    except BaseException:  # noqa: BLE001 - a forked child must never run on in its parent's code
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(FAILED)


def _die_with_parent() -> None:
    """If the system can do so, let no child outlive the harness."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


# -- the supervisor -------------------------------------------------------------------------------------------


class _Supervisor:
    """Runs one job after the other; `requests` and `reports` are descriptors of pipes."""

    def __init__(self, requests: int, reports: int) -> None:
        self._requests = requests
        self._reports = reports
        self._buffer = b""
        self._harness = os.getppid()
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        # A child's end has to interrupt the wait for input, and no thread may exist beside the fork.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def report(self, report: Report) -> None:
        """Send one line."""
        os.write(self._reports, msgspec.json.encode(report) + b"\n")

    def serve(self, target: Target) -> None:
        """Run every requested job, until the input closes."""
        while (line := self._next()) is not None:
            child = os.fork()
            if child == 0:
                _be_the_child(target, Path(os.fsdecode(line)), self._harness)
            self.report(Born(child))
            status = self._outlive(child)
            # Kill every process that the child has started.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            if status is None:
                return
            self.report(Died(child, status))

    def _next(self) -> bytes | None:
        """The next request; None at the end of the input."""
        while END_OF_REQUEST not in self._buffer:
            if not (received := os.read(self._requests, 65_536)):
                return None
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(END_OF_REQUEST)
        return line

    def _outlive(self, child: int) -> int | None:
        """How the child ended; None if the input closed first, and the child was killed."""
        while True:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return status
            ready, _, _ = select.select([self._requests, self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 65_536)
            if self._requests in ready:
                received = os.read(self._requests, 65_536)
                if not received:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    return None
                self._buffer += received


def main() -> None:
    """Load the target and serve, over the original standard input and output."""
    requests, reports = os.dup(0), os.dup(1)
    # Output of a target must not mix with the reports.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _die_with_parent()
    supervisor = _Supervisor(requests, reports)
    try:
        target = find_or_import(sys.argv[1])
        faults.shim_for()
    except (UnknownTargetError, faults.ShimUnavailableError) as error:
        supervisor.report(Unable(str(error)))
        return
    gc.collect()
    gc.freeze()
    supervisor.report(Ready(os.getpid()))
    supervisor.serve(target)


if __name__ == "__main__":
    main()
