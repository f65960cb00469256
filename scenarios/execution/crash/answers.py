"""What a store answers after a power cut that has taken nothing from its rows, but from a file beside them.

Method. A view is made of rows, and does not show that a file that a row names was not synced. So where the view is that
of the last acknowledged call, and a file beside the database has not got all that was written to it, the workload's
reading calls are made on these files, and must return what they return on the whole files. Without a fault before, and
where the configuration promises that acknowledged changes are there. Where a name is lost, no read may fail that works
on the whole files; what it returns is not compared, since it may count files.

Not covered: names that come back, a pending call, and an answer that varies.
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from tornpage import faults
from tornpage.scenarios.execution.call_timeout import TookTooLongError, in_time
from tornpage.scenarios.execution.dropped import collected
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.execution.generic_checks.file_modes import StrictUmask
from tornpage.scenarios.execution.in_place import another_process
from tornpage.scenarios.execution.reading_calls import reading_calls
from tornpage.scenarios.execution.snapshots import Files, is_own, place
from tornpage.scenarios.model.judging.answers import as_answer, in_words, is_wrong
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import Promise, Span, promise_of
from tornpage.scenarios.model.target import Action, Configuration, Session, Target, environment_of

_READING: Final = "a read after a power cut"
_Digests = Mapping[str, bytes]


class AnswersAfterACrash:
    """The answers of one store's reading calls, on files in the directory where they were written."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path, now_ms: int) -> None:
        self._target = target
        self._configuration = configuration
        self._directory = directory
        self._now_ms = now_ms
        self._database = os.path.relpath(target.database(directory), directory)
        self._reads: tuple[Action, ...] | None = None
        # By the files beside the database, of states with the rows of one call.
        self._known: dict[object, Violation | None] = {}

    def require(self, state: faults.State, whole: faults.State, rest: Span) -> None:
        """Require that what `state` has lost of `whole` is not missed by a read; raises `Violation`.

        `rest` is the call after which both are. No session may be open in the directory.
        """
        left, there = self._beside(state), self._beside(whole)
        if left == there or not left.keys() <= there.keys():
            return
        key = rest.number, tuple(sorted(left.items()))
        if key not in self._known:
            compares = left.keys() == there.keys()
            self._known[key] = self._difference(dict(state.files), dict(whole.files), rest, compares=compares)
        if (violation := self._known[key]) is not None:
            raise violation.with_message(violation.message)

    def _beside(self, state: faults.State) -> _Digests:
        return {name: digest for name, digest in state.identity if not is_own(name, self._database)}

    def _difference(self, files: Files, whole: Files, rest: Span, *, compares: bool) -> Violation | None:
        """The first read that fails on `files` only or, with `compares`, returns something else there."""
        if self._reads is None:
            home = self._directory.with_name(f"{self._directory.name}.reads")
            self._reads = reading_calls(self._target, self._configuration, home)
        if not self._reads:
            return None
        for number, (read, (want, error), (got, found)) in enumerate(
            zip(self._reads, self._answers(whole), self._answers(files), strict=True)
        ):
            if error or not (found or (compares and is_wrong(got, want, partial(self._value, whole, number)))):
                continue
            returns = f"fails with {found}" if found else f"returns {in_words(got)}"
            message = f"a power cut after {rest.call} {rest.answer}: the rows are there, and {read} {returns}; "
            message += f"without the cut it returns {in_words(want)}"
            sides = {"expected": {read.name: want}, "reopened": {read.name: found or got}}
            return Violation("acknowledged-is-durable", message, sides)
        return None

    def _value(self, files: Files, number: int) -> Any:
        return self._answers(files)[number][0]

    def _answers(self, files: Files) -> list[tuple[Any, str]]:
        """Of each read its answer, and the error that it has raised, "" for none."""
        place(files, self._directory)
        environment = environment_of(self._target)
        environment.now_ms = self._now_ms
        try:
            with another_process(), StrictUmask(), faults.shims().telling(), collected(), in_time(_READING):
                session = self._target.open(self._directory, self._configuration, environment)
                try:
                    return [_answer(session, read) for read in self._reads or ()]
                finally:
                    session.close()
        except TookTooLongError as hang:
            raise Violation("still-usable-after-the-fault", str(hang)) from None


def _answer(session: Session, read: Action) -> tuple[Any, str]:
    try:
        return as_answer(session.call(read)), ""
    except Exception as error:  # noqa: BLE001 - the store's answer
        forget_frames(error)
        return None, repr(error)


def is_promised(configuration: Configuration) -> bool:
    """Whether acknowledged changes are there after a power cut, but for the last one."""
    return promise_of(configuration, power=True) in (Promise.EXACT, Promise.LAST)
