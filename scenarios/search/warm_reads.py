"""A cache that the view does not show: what the store returns to a read, after a failed call, if it was asked before.

Method. Points start in a cold session, in which nothing has been read. So after the first point of each call that
raised and had happened, and after the first that had not, the same fault is tried once more in a warm one: each reading
call of the workload is made, then the call under the fault, then each reading call again. As the file shows, the call
has happened or it has not; the reading calls must return what they return in that state without a fault. A difference
counts only if the executor finds it, too, in the point's scenario: it knows answers that tell of the session only.

Of a call that changes nothing which the view shows, such as an export, each read must return what it returns in either
case; tried are faults that leave other files beside the rows (`execution.half_done`).

A fault that the warm session does not meet, since it has read its pages before, leaves its turn to one of another kind;
so does one with which the executor finds nothing.

Not covered: calls that were acknowledged under a fault (``fuzz`` makes them), and a workload without reading calls.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.injection import OPENERS
from tornpage.scenarios.execution.reading_calls import reading_calls
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import agreed, is_alike
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import Arm, Call, Scenario
from tornpage.scenarios.model.target import Action, Configuration, Target
from tornpage.scenarios.search.workload import Start

# Of a call that changes nothing visible, so many different outcomes in the files beside the rows are tried.
_MOST_LEFT: Final = 4


class WarmReads:
    """The warm sessions of one target; `directory` is one of its own."""

    def __init__(self, target: Target, directory: Path) -> None:
        self._target, self._directory = target, directory
        self._reads: dict[Configuration, tuple[Action, ...]] = {}
        self._start: Start | None = None
        # Of a call of the workload: whether one was tried that had happened, and one that had not; of one that changes
        # nothing visible the files that were left beside the rows.
        self._tried: set[object] = set()
        # By the same the kinds of faults that a warm session did not meet, and the one that is tried now.
        self._unmet: set[tuple[object, str]] = set()
        self._now: tuple[object, str] = (None, "")
        # By the same: the answers without a fault.
        self._wanted: dict[bool, dict[str, Any]] = {}

    def is_due(self, start: Start, answer: Answer, trial: Trial, kind: str) -> bool:
        """Whether to try a fault of this kind once more, under which the call of `start` got this answer in `trial`."""
        if start is not self._start:
            self._start, self._tried, self._unmet, self._wanted = start, set(), set(), {}
        settled = trial.oracle.settled
        if answer.kind != "raised" or start.action in (OPEN, CLOSE) or settled not in (start.before, start.after):
            return False
        outcome: object = settled == start.after
        if start.before == start.after:
            outcome = hash(frozenset(trial.files_beside(trial.crash_copy()).items()))
            self._tried = self._tried or {hash(frozenset(trial.files_beside(start.files).items()))}
        if outcome in self._tried or len(self._tried) > _MOST_LEFT or (outcome, kind) in self._unmet:
            return False
        self._tried.add(outcome)
        self._now = outcome, kind
        return True

    def scenario(self, point: Scenario, start: Start) -> Scenario:
        """The scenario of a point, in a warm session."""
        *before, condition, last, clear = point.steps
        reads = [Call(one, start.step) for one in self._reads[point.configuration]]
        return msgspec.structs.replace(point, steps=(*before, *reads, condition, last, *reads, clear))

    def judge(self, point: Scenario, start: Start, home: Path) -> None:
        """Try the fault of a point in a warm session; raises `Violation`."""
        configuration = point.configuration
        if configuration not in self._reads:
            # What fails here fails without any fault, so it is not said of this one.
            self._reads[configuration] = ()
            with contextlib.suppress(Violation):
                self._reads[configuration] = reading_calls(self._target, configuration, home)
        if not self._reads[configuration]:
            return
        fault = next(step for step in point.steps if isinstance(step, Arm))
        if self._is_as_in_one_state(configuration, start, fault, home):
            return
        violation, _ = play(self.scenario(point, start), self._target, self._directory)
        if violation is not None:
            raise violation
        self._leave_to_another()

    def _leave_to_another(self) -> None:
        """Let another kind of fault try the same outcome: this one did not come, or not in the scenario."""
        self._unmet.add(self._now)
        self._tried.discard(self._now[0])

    def _is_as_in_one_state(self, configuration: Configuration, start: Start, fault: Arm, home: Path) -> bool:
        """Whether all reading calls return, after the fault, what they return in the state that the file shows."""
        with self._opened(configuration, start, home) as trial:
            if fault.depth == "statement":
                trial.watch_statements()
            trial.open()
            list(self._answers(trial, configuration))
            with OPENERS[type(fault)](trial, fault):
                answer = trial.call(start.action, start.after, start.stages)
            try:
                trial.look(integrity=False)
            except Violation:
                return False
            settled = trial.oracle.settled
            if answer.kind != "raised":
                # Its pages were read before.
                self._leave_to_another()
            if answer.kind != "raised" or settled not in (start.before, start.after):
                return True
            now = dict(self._answers(trial, configuration))
        # Of a call that changes nothing visible it can't be told whether it has happened.
        kinds = (False, True) if start.before == start.after else (settled == start.after,)
        wanted = [self._answers_without_fault(configuration, start, home, happened=kind) for kind in kinds]
        return all(
            any(is_alike(now.get(key), one[key]) for one in wanted)
            for key in wanted[0]
            if all(key in one for one in wanted)
        )

    def _answers_without_fault(
        self, configuration: Configuration, start: Start, home: Path, *, happened: bool
    ) -> dict[str, Any]:
        """The answers of a warm session in which the call succeeds, or is not made; of two, where they agree."""
        if happened not in self._wanted:
            runs = []
            for _ in range(2):
                with self._opened(configuration, start, home) as trial:
                    trial.open()
                    list(self._answers(trial, configuration))
                    if happened:
                        trial.call(start.action, start.after, start.stages)
                    runs.append(dict(self._answers(trial, configuration)))
            one, other = runs
            self._wanted[happened] = {key: agreed(value, other[key]) for key, value in one.items() if key in other}
        return self._wanted[happened]

    def _answers(self, trial: Trial, configuration: Configuration) -> Iterator[tuple[str, Any]]:
        """The answers of the reading calls that are acknowledged."""
        for one in self._reads[configuration]:
            answer = trial.ask(one)
            if answer.kind == "done":
                yield str(one), answer.value

    def _opened(self, configuration: Configuration, start: Start, home: Path) -> Trial:
        place(start.files, home)
        trial = Trial(self._target, configuration, home, start.before)
        trial.at_step(start.step)
        return trial
