"""After a fault of a plain file: the call made again, a restart, and what the store's reading calls then return.

Method. The rows of a database, and a view made of them, say nothing of a file beside it: a half-written one that the
next call takes for whole leaves every row as it should be. So after such a fault these steps follow, on the store that
met it, and before, to compare, on one that did not (`reading_calls`).

- At once each reading call is made; one that a reader could make before the fault may not fail. Of a call that was
  acknowledged, or failed and left the state before, each must return what it returns in that state; of one that
  failed and changes nothing visible, what it returns before or after it.
- After the small change, a call that was acknowledged: the store is closed and opened again, and each reading call is
  made. One that failed, and left the state before: it is made again, as a caller does that tries again; then the same.
- An opening or a closing: the store is opened again, and each reading call is made.

Not covered: what is returned after a call that failed although its change had happened, since a file may be as before
or as after it, and a workload without reading calls.
"""

from pathlib import Path
from typing import Any

import msgspec

from tornpage.scenarios.execution.half_done import raise_if_neither
from tornpage.scenarios.execution.reading_calls import reading_calls
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.session_only import SessionOnly
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import NOT_COMPARED, agreed
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import Call, Restart, Step
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View
from tornpage.scenarios.search.workload import Start


class _Expected(msgspec.Struct, frozen=True):
    """A call (None: closing and opening), and without a fault its answer and the state after it."""

    action: Action | None
    answer: Answer
    view: View


class _Course(msgspec.Struct, frozen=True):
    """What follows a call without a fault: what is read at once, the state after the small change, and the steps."""

    reads: tuple[_Expected, ...] = ()
    begins: View = msgspec.field(default_factory=dict)
    steps: tuple[_Expected, ...] = ()


class LaterReads:
    """What follows a fault of a plain file in a call, for one target; `directory` is one of its own."""

    def __init__(self, target: Target, directory: Path) -> None:
        self._target, self._directory = target, directory
        self._reads: dict[Configuration, tuple[Action, ...]] = {}
        self._start: Start | None = None
        # By whether the call was acknowledged.
        self._courses: dict[bool, _Course] = {}
        # The steps made at the current point, for its scenario.
        self.made: tuple[Step, ...] = ()

    def prepare(self, configuration: Configuration, start: Start, home: Path) -> None:
        """Make what may follow the call of `start` on a store that meets no fault, in the directory `home`."""
        self.made = ()
        if start is self._start:
            return
        if configuration not in self._reads:
            self._reads[configuration] = reading_calls(self._target, configuration, home)
        self._start = start
        kinds = (True,) if start.action in (OPEN, CLOSE) else (True, False)
        self._courses = {is_done: self._without_fault(configuration, start, home, is_done=is_done) for is_done in kinds}

    def read(self, trial: Trial, start: Start, answer: Answer) -> None:
        """Make the reading calls at once after the `answer` to the call of `start`; raises `Violation`."""
        if start.action in (OPEN, CLOSE) or answer.kind == "refused":
            return
        settled, is_done = trial.oracle.settled, answer.kind == "done"
        # Of a call that failed and changes nothing visible it can't be told whether it has happened.
        is_known = is_done or (settled == start.before and start.before != start.after)
        courses = [self._courses[is_done]] if is_known else [*self._courses.values()]
        for expected in courses[0].reads:
            action = expected.action
            if action is None or not all(any(one.action == action for one in course.reads) for course in courses):
                continue
            self.made += (Call(action, start.step),)
            answer_now = trial.ask(action)
            self._judge(trial, action, answer_now, expected.answer.value if is_known else NOT_COMPARED)
            if not is_known and answer_now.kind == "done" and start.action.name not in self._target.many_commits:
                values = [one.answer.value for course in courses for one in course.reads if one.action == action]
                raise_if_neither(start.action, action, answer_now.value, values[1], values[0])

    def follow(self, trial: Trial, start: Start, answer: Answer) -> None:
        """Make what follows the `answer` to the call of `start`, and the small change; raises `Violation`."""
        course = self._courses[answer.kind == "done" or start.action in (OPEN, CLOSE)]
        if answer.kind == "refused" or trial.oracle.settled != course.begins:
            return
        self.made += (Call(self._target.heartbeat(), start.step),)
        trial.oracle.numbers_used = True
        for expected in course.steps:
            action = expected.action
            self.made += (Restart(at=start.step) if action is None else Call(action, start.step),)
            if action is None:
                trial.close()
                trial.reopen()
                trial.look_after_restart(crashed=False)
            else:
                self._call(trial, action, expected)
            if trial.oracle.settled != expected.view:
                # A new row has a higher number than without the call that failed.
                return

    def _call(self, trial: Trial, action: Action, expected: _Expected) -> None:
        """Make a call with nothing armed, and compare; raises `Violation`."""
        before = trial.oracle.settled
        answer = trial.call(action, expected.view)
        changes = expected.view != before
        self._judge(trial, action, answer, NOT_COMPARED if changes else expected.answer.value)
        if changes:
            trial.look()

    def _judge(self, trial: Trial, action: Action, answer: Answer, value: Any) -> None:
        """Require that a call with nothing armed is acknowledged, and returns `value`; raises `Violation`."""
        if answer.kind == "raised":
            message = f"the fault is gone, and {action} {answer}"
            raise Violation("still-usable-after-the-fault", message) from answer.error
        if answer.kind == "refused":
            message = f"{action} {answer}; in a session that has met no fault it would be acknowledged"
            raise Violation("acknowledged-is-durable", message)
        try:
            trial.judge_answer(action, answer, value, lambda: value)
        except Violation:
            session_only = SessionOnly(self._target, trial.oracle.configuration, self._directory, trial.directory)
            if not session_only.explains(action, answer.value, value, trial.crash_copy()):
                raise

    def _without_fault(self, configuration: Configuration, start: Start, home: Path, *, is_done: bool) -> _Course:
        """What follows, twice: an answer that differs is not compared. Nothing, if that fails."""
        try:
            first, second = (self._played(configuration, start, home, is_done=is_done) for _ in range(2))
        except TargetError:
            raise
        except Exception:  # noqa: BLE001 - a view or an opening that fails: a finding of its own, without any fault
            return _Course()
        return _Course(_agreed(first.reads, second.reads), first.begins, _agreed(first.steps, second.steps))

    def _played(self, configuration: Configuration, start: Start, home: Path, *, is_done: bool) -> _Course:
        """The steps up to the first that does not succeed, and the reading calls that do."""
        place(start.files, home)
        reads, calls = self._reads[configuration], list[_Expected]()
        with Trial(self._target, configuration, home, start.before) as shadow:
            shadow.at_step(start.step)
            shadow.open()
            if is_done and start.action not in (OPEN, CLOSE):
                shadow.call(start.action, start.after, start.stages)
            view = shadow.live_view()
            answers = [(one, shadow.ask(one)) for one in reads]
            shadow.beat()
            begins = shadow.live_view()
            for action in (*(() if is_done else (start.action,)), None, *reads):
                if action is None:
                    shadow.close()
                    shadow.open()
                answer = Answer("done") if action is None else shadow.ask(action)
                if answer.kind != "done":
                    break
                calls.append(_Expected(action, answer, shadow.live_view()))
        at_once = tuple(_Expected(one, answer, view) for one, answer in answers if answer.kind == "done")
        return _Course(at_once, begins, tuple(calls))


def _agreed(first: tuple[_Expected, ...], second: tuple[_Expected, ...]) -> tuple[_Expected, ...]:
    """The steps that two runs agree on; answers that differ are not compared."""
    steps = []
    for one, other in zip(first, second, strict=False):
        if one.action != other.action or one.view != other.view:
            break
        steps.append(
            _Expected(one.action, Answer("done", value=agreed(one.answer.value, other.answer.value)), one.view)
        )
    return tuple(steps)
