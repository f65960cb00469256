"""The tape of a program of its own, filled by strace from the program's opening of the store to its close.

A program may still work after it has answered, even on the change that it acknowledged. It reads its next request when
it is done, so `settle` requests its view before its files are read. Of work on a background thread, the tape has what
has happened by then.
"""

import contextlib
from collections.abc import Iterator, Mapping

from tornpage.faults.errors import FaultError
from tornpage.faults.syscall_log.recorder import OperationRecorder
from tornpage.faults.syscall_log.translator import NotTranslatedError
from tornpage.faults.vfs.operation_log import Tape
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.targets.process import ProcessSession, ProcessTarget, Program


class ProgramTape:
    """Fills the tape of one trial. `follow` raises `TargetError`, with the reason, for what it can't trace."""

    def __init__(self, trial: Trial, tape: Tape, base: Mapping[str, bytes]) -> None:
        self._base = base
        self._name = trial.target.name
        self._environment = trial.environment
        self._tape = tape
        self._recorder: OperationRecorder | None = None
        self._program: Program | None = None
        self._answers_before = 0
        # This error is not an answer of the store, so it is kept until the tape is read.
        self._failed: FaultError | None = None
        self._environment.before_opening.append(self._attach)
        self._environment.after_closing.append(self._detach)

    def follow(self) -> None:
        """Extend the tape up to the last answer."""
        if self._recorder is not None and self._program is not None:
            with self._remembered():
                self._recorder.follow(self._program.answers - self._answers_before)
        if isinstance(self._failed, NotTranslatedError):
            raise TargetError(
                f"{self._name}: {self._failed}; no crash state can be made of a run with it: switch it off for the test"
            ) from self._failed
        if self._failed is not None:
            raise TargetError(f"{self._name}: crash states can't be made: {self._failed}") from self._failed

    def end(self) -> None:
        """Detach from the program."""
        self._environment.before_opening.remove(self._attach)
        self._environment.after_closing.remove(self._detach)
        self._let_go()

    def _attach(self, program: Program) -> None:
        self._let_go()
        with self._remembered():
            self._recorder = OperationRecorder(program.pid, self._tape, program.answers_to, self._base)
        self._program, self._answers_before = program, program.answers

    def _detach(self, program: Program) -> None:
        del program
        self._let_go()

    def _let_go(self) -> None:
        recorder, self._recorder, self._program = self._recorder, None, None
        if recorder is not None:
            with self._remembered():
                recorder.detach()

    @contextlib.contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except FaultError as error:
            self._failed = self._failed or error


def tape_of_program(trial: Trial, tape: Tape, base: Mapping[str, bytes]) -> ProgramTape | None:
    """The tape filler of a trial, from `base` on, if its target is a program of its own; None for any other."""
    return ProgramTape(trial, tape, base) if isinstance(trial.target, ProcessTarget) else None


def settle(trial: Trial) -> None:
    """Wait until a program of its own has finished the work that follows its answer."""
    if isinstance(trial.session, ProcessSession):
        # Errors of the view are reported by the checks that read it.
        with contextlib.suppress(Exception):
            trial.live_view()
