"""Faults in a program's system calls, as a condition: strace is attached to the process that does a store's I/O.

In force from the open session on, or, if none is open, from just before the next process opens the store; after a
restart the count begins at zero with the new process. A fault that is not sticky ends when it has fired.

It also checks what a program must not do when a system call fails: hang, write something other than answers, or, unless
it declares that it does, end by itself. A failure to start is a failure like others.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tornpage.faults.plan import KILL
from tornpage.faults.strace import Attachment, SyscallFault, SystemCall, attach
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Syscall
from tornpage.scenarios.model.target import Configuration, Target, TargetError
from tornpage.scenarios.targets.process import DiedError, ProcessSession, ProcessTarget, Program, ProgramError


class SyscallInjection:
    """Its counts: `fired` system calls failed, `surfaced` errors reached a caller; `calls` were seen."""

    # strace reports its log when it detaches.
    is_known_late = True

    def __init__(self, trial: Trial, fault: SyscallFault | None) -> None:
        if not isinstance(trial.target, ProcessTarget):
            raise TargetError(
                f"{trial.target.name} runs in this process, and only a program of its own (command:...) can be reached "
                "at its system calls"
            )
        self.fault = fault
        self.fired = 0
        self.calls: tuple[SystemCall, ...] = ()
        self._trial = trial
        self._target = trial.target
        self._errors = 0
        self._attachment: Attachment | None = None

    @property
    def surfaced(self) -> int:
        """How many errors reached a caller after the fault had fired."""
        return self._errors if self.fired else 0

    def saw(self, error: BaseException) -> bool:
        """Count an error; raises `Violation` for a program that did not even answer."""
        self._errors += 1
        if isinstance(error, ProgramError):
            self._judge(error)
        return True

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Not in force; it is again when a process opens the store next."""
        self.detach()
        with contextlib.suppress(ValueError):
            self._trial.environment.before_opening.remove(self.attach)
        try:
            yield
        finally:
            self._trial.environment.before_opening.append(self.attach)

    def attach(self, program: Program) -> None:
        """Reach into a process; raises `faults.strace.SyscallsUnavailableError`."""
        self.detach()
        if self.fault is None or self.fault.when.sticky or not self.fired:
            databases = self._target.databases(self._trial.directory)
            self._attachment = attach(program.pid, databases[0], self.fault, databases[1:])

    def detach(self) -> None:
        """Detach from the process, and record what happened."""
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.detach()
            self.fired += attachment.fired
            self.calls += attachment.calls

    def end(self) -> None:
        """Detach, and release a session whose process has ended."""
        self.detach()
        self._trial.environment.before_opening.remove(self.attach)
        session = self._trial.session
        if isinstance(session, ProcessSession) and not session.program.alive:
            self._trial.session = None
            session.close()

    def _judge(self, error: ProgramError) -> None:
        if isinstance(error, DiedError):
            # The process has ended, so strace knows by now whether the fault killed it.
            self.detach()
            was_us = self.fault is not None and self.fault.effect == KILL and self.fired
            if was_us or self._trial.session is None or self._target.description.dies_on_errors:
                return
        raise Violation("still-usable-after-the-fault", str(error)) from error


@contextlib.contextmanager
def intrude(trial: Trial, fault: SyscallFault | None) -> Iterator[SyscallInjection]:
    """Make the system calls of a trial's store meet a fault inside this scope; None only watches.

    Raises `TargetError`, and `SyscallsUnavailableError` if strace can't be attached.
    """
    syscall_injection = SyscallInjection(trial, fault)
    with trial.troubled():
        trial.environment.before_opening.append(syscall_injection.attach)
        try:
            session: Any = trial.session
            if session is not None:
                syscall_injection.attach(session.program)
            yield syscall_injection
        finally:
            syscall_injection.end()


def require_seen(target: Target, configuration: Configuration, home: Path) -> None:
    """Raise `TargetError` if the watched process makes no system call on its database, even when it opens its store.

    Then nothing that it does is seen: no fault fires, and a lock that it was refused looks like an error of its own.
    """
    place({}, home)
    with Trial(target, configuration, home, {}) as trial:
        trial.at_step(0)
        with intrude(trial, None) as watched:
            trial.open()
    if not watched.calls:
        raise unseen(target)


def unseen(target: Target) -> TargetError:
    """The error of a program whose system calls are made by another process than the one that is watched."""
    return TargetError(
        f"{target.name}: its process makes no system call on {target.database(Path())}; if another process does the "
        'I/O (under a shell, say), "describe" must return the "pid" of that process'
    )


def by_step(trial: Trial, step: Syscall) -> contextlib.AbstractContextManager[SyscallInjection]:
    """The condition of a scenario's step."""
    return intrude(trial, SyscallFault.parse(step.fault))
