"""The line of a finding in the code under test, for readers and annotations.

Method. While the scenario is replayed (`finding.trace`), the failing call is traced. The place is, in this order:

- of an error that was hidden: the line that raised, in its place, what follows from it, such as the ROLLBACK;
- the innermost line of the code under test at the moment when an error of SQLite (or of memory, or of a file) came out
  of the call below it, whether the code passed that error on or swallowed it;
- if no error was seen, because the fault was absorbed, no fault was armed, or the process died: the first function of
  the code under test that the call enters.

Of two callers it is the line at which the first one stood while the other made its call.

For a known bug the place is the whole method that it overrides. What the code under test is says `code_under_test`.

Not covered: programs of their own, and threads that a call starts: there the place is "".
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Final

from tornpage import faults
from tornpage.faults.contention.lines import Line
from tornpage.faults.contention.schedule import Hop
from tornpage.faults.contention.turns import Paused
from tornpage.scenarios.execution.code_under_test import Code, CodeLine, shown
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.hidden_errors import CODE as HIDDEN
from tornpage.scenarios.model.judging.hidden_errors import is_a_consequence
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import Call, Step
from tornpage.scenarios.model.target import Action, Target, View

_MOST_FUNCTIONS: Final = 1_000


class Watch:
    """Records where the first error was raised, and the last that follows from one, with all callers; what was entered.

    The latter is an error such as "cannot rollback - no transaction is active".
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._code = Code(target)
        self.raised_at: list[CodeLine] = []
        self.hidden_at: list[CodeLine] = []
        self._hides = 0
        self.entered: list[CodeLine] = []
        # The turns of two callers, if the decisive call is theirs.
        self.hops: Sequence[Hop] = ()
        self._outside: FrameType | None = None
        self._is_everyday = False

    def forget(self) -> None:
        """Discard the records."""
        self.raised_at.clear()
        self.hidden_at.clear()
        self.entered.clear()

    def place_of(self, check: str) -> str:
        """The place of a finding as ``file:line``, relative to the project if it is inside; "" for none."""
        if "syscall" in self._target.depths:
            return ""
        code = self._code
        if (stood := _stood_at(self.hops)) is not None and not code.is_bug:
            return f"{shown(stood.file)}:{stood.number}"
        hidden_at = self.hidden_at if check == HIDDEN else []
        found = code.best(hidden_at) or code.best(self.raised_at) or code.best(self.entered) or code.overridden()
        return f"{shown(found.file)}:{found.line}" if found else ""

    @contextlib.contextmanager
    def calls_of(self, trial: Trial, decisive: Step) -> Iterator[None]:
        """Trace what a trial's session does in this scope; for the decisive call only the call itself."""
        call = trial.call

        def watched(action: Action, after: View, stages: tuple[View, ...] = ()) -> Answer:
            if isinstance(decisive, Call) and action == decisive.action:
                # The store had to be opened first; if that succeeded it is irrelevant.
                self.forget()
            with self.tracing():
                return call(action, after, stages)

        trial.call = watched  # type: ignore[method-assign]
        try:
            yield
        finally:
            del trial.call

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace calls in this scope; an earlier tracer is restored afterwards."""
        before = sys.gettrace()
        # The frame of the scope: above it and the one of `contextlib`.
        self._outside = sys._getframe(2)
        sys.settrace(self._entering)
        try:
            yield
        finally:
            sys.settrace(before)
            # A frame keeps all its objects alive, connections too.
            self._outside = None

    def _entering(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002 - a tracer's shape
        frame.f_trace_lines = False
        if len(self.entered) < _MOST_FUNCTIONS and self._code.is_under_test(frame):
            self.entered.append(_line(frame, frame.f_code.co_firstlineno))
        return self._inside

    def _inside(self, frame: FrameType, event: str, argument: Any) -> Any:
        # What Python catches itself, as `os.makedirs` does with "file exists", never comes out of a call of ours.
        if event == "exception" and self._code.is_under_test(frame):
            error = argument[1]
            if self._says_more(error):
                self.raised_at = list(self._lines_from(frame))
            elif self.raised_at and id(error) != self._hides and is_a_consequence(error):
                # It comes out of each caller, too.
                self._hides, self.hidden_at = id(error), list(self._lines_from(frame))
        return self._inside

    def _lines_from(self, frame: FrameType) -> Iterator[CodeLine]:
        inner: FrameType | None = frame
        while inner is not None and inner is not self._outside:
            if self._code.is_under_test(inner):
                yield _line(inner, inner.f_code.co_firstlineno if self._code.is_bug else inner.f_lineno)
            inner = inner.f_back

    def _says_more(self, error: object) -> bool:
        """Whether it is the first error of the world; that a file is there, or isn't, gives way to any other."""
        is_everyday = isinstance(error, (FileExistsError, FileNotFoundError))
        if not _is_of_the_world(error) or (self.raised_at and (is_everyday or not self._is_everyday)):
            return False
        self._is_everyday = is_everyday
        return True


def _stood_at(hops: Sequence[Hop]) -> Line | None:
    """The line at which the first of two callers stood while the other one made its call."""
    return next((hop.event.point.where for hop in hops if isinstance(hop.event, Paused)), None)


def _is_of_the_world(error: object) -> bool:
    of_the_world = (*faults.sqlite_errors(), MemoryError, OSError)
    return isinstance(error, of_the_world) and not isinstance(error, faults.errors_of_the_code())


def _line(frame: FrameType, number: int) -> CodeLine:
    return CodeLine(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, number, frame.f_code.co_name)
