"""After a failed call, another call of the same name in the same session: it may complete what the failed one began.

Method. A store may keep what a call has prepared in memory, in a temporary table or in an attribute, and empty it only
after the call. No view shows that, and the small change does not use it; the next call of the same name does. So after
the first fault with which a call has failed, for each state that it left, the workload's next call of that name with
other arguments is made, beside the shadow.

Not covered: names that the workload calls with the same arguments only.
"""

import contextlib
from pathlib import Path

import msgspec

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.injection import OPENERS
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Call, Scenario
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View
from tornpage.scenarios.search.workload import Start


class NextCalls:
    """The further calls of one target; `directory` is one of its own."""

    def __init__(self, target: Target, directory: Path) -> None:
        self._directory = directory
        self._target = target
        self._start: Start | None = None
        # By whether the call had happened: the view after the further call without a fault; None if it is refused.
        self._wanted: dict[bool, View | None] = {}

    def scenario(self, point: Scenario, start: Start) -> Scenario:
        """The scenario of a point, and the further call."""
        further = self._after(start.action)
        steps = () if further is None else (Call(further, start.step),)
        return msgspec.structs.replace(point, steps=(*point.steps, *steps))

    def judge(self, point: Scenario, start: Start, home: Path) -> None:
        """Make a further call after the fault of a point; raises `Violation`."""
        further = self._after(start.action)
        if further is None or self._leads_where_it_should(point, start, further, home):
            return
        # A call may make no sense in this state.
        with contextlib.suppress(TargetError):
            violation, _ = play(self.scenario(point, start), self._target, self._directory)
            if violation is not None:
                raise violation

    def _leads_where_it_should(self, point: Scenario, start: Start, further: Action, home: Path) -> bool:
        """Whether it leaves, after the fault, what it leaves without one, or is not made there either."""
        fault = next(step for step in point.steps if isinstance(step, Arm))
        if start is not self._start:
            self._start, self._wanted = start, {}
        try:
            with self._opened(point.configuration, start, home) as trial:
                if fault.depth == "statement":
                    trial.watch_statements()
                trial.open()
                with OPENERS[type(fault)](trial, fault):
                    answer = trial.ask(start.action)
                happened = trial.fresh_view() == start.after
                if answer.kind != "raised":
                    return True
                trial.ask(further)
                left = trial.fresh_view()
        except Violation:
            return False
        if happened not in self._wanted:
            self._wanted[happened] = self._without_a_fault(point.configuration, start, further, home, happened=happened)
        wanted = self._wanted[happened]
        return wanted is None or left == wanted

    def _without_a_fault(
        self, configuration: Configuration, start: Start, further: Action, home: Path, *, happened: bool
    ) -> View | None:
        with self._opened(configuration, start, home) as trial:
            trial.open()
            if happened:
                trial.ask(start.action)
            return trial.fresh_view() if trial.ask(further).kind == "done" else None

    def _opened(self, configuration: Configuration, start: Start, home: Path) -> Trial:
        place(start.files, home)
        trial = Trial(self._target, configuration, home, start.before)
        trial.at_step(start.step)
        return trial

    def _after(self, action: Action) -> Action | None:
        """The first call of the same name after this one in the workload, or else before it; None without one."""
        calls = self._target.workload()
        number = calls.index(action) if action in calls else 0
        ahead = (*calls[number:], *calls[:number])
        return next((one for one in ahead if one.name == action.name and one != action), None)
