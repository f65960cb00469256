"""The trace: a finding's scenario, replayed and recorded step by step; all reports read it.

Method. After every step the trace records the views of memory, disk and a reopened copy (`finding.views`). Armed faults
are paused while it reads. After a step that only arms something it reads nothing, since no state changes. It does not
read a session that has just started, since data once read can't fail any more. States are numbered in the order in
which they first appear, so two views are equal where their numbers are. The trace marks the first step after which the
views differ, or at which a check fails. The failing call is traced for its place in the code
(`finding.source_location`).

Not covered: a scenario that kills runs in other processes, whose memory this one can't read. It is replayed without the
kill, for the place alone.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.finding.source_location import Watch
from tornpage.scenarios.execution.finding.views import VIEWS, Row, rows_of, views_of
from tornpage.scenarios.execution.finding.words import changes, short, short_row
from tornpage.scenarios.execution.injection import prepared
from tornpage.scenarios.execution.interleave.schedule import hops_in_words
from tornpage.scenarios.execution.kill.executor import kills
from tornpage.scenarios.model.as_json import in_order, writable
from tornpage.scenarios.model.fingerprint import decisive_step
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import (
    Clear,
    ClockJump,
    ClockPace,
    Conditional,
    CrashAt,
    Damage,
    Interleave,
    Restart,
    Scenario,
    Step,
)
from tornpage.scenarios.model.target import Target, View, completed

_AT_THE_END = "with nothing armed, one more small change"
_LONGEST_OUTCOME = 500
_MOST_ROWS = 20


class Lane(msgspec.Struct, frozen=True):
    """The state of one view: `state` is its number, None if it was not, or could not be, read (`reason`).

    `changes` describe the differences from the state that this lane showed before.
    """

    state: int | None
    changes: tuple[str, ...] = ()
    reason: str = ""


class Moment(msgspec.Struct, frozen=True):
    """One step, its outcome, the plans armed at its end, and the lanes by name.

    `caller`: which of two callers took it, "" for a single one.
    """

    step: str
    outcome: str
    armed: tuple[str, ...]
    lanes: dict[str, Lane]
    caller: str = ""


class Trace(msgspec.Struct, frozen=True):
    """A whole scenario. `first_difference` numbers the moment (from 1) after which views differ, or a check fails.

    `check` is the check that failed this time, empty for none, and `message` its message; `rows` are the keys that
    differ at the first difference; `reason` says why there are no moments. `where` is ``file:line`` in the code under
    test, "" if unknown.
    """

    moments: tuple[Moment, ...] = ()
    first_difference: int | None = None
    check: str = ""
    rows: tuple[Row, ...] = ()
    reason: str = ""
    message: str = ""
    where: str = ""

    def shortened(self) -> "Trace":
        """The trace as kept with its finding: long texts are cut, and only the first of many rows are kept."""
        moments = (msgspec.structs.replace(one, outcome=short(one.outcome, _LONGEST_OUTCOME)) for one in self.moments)
        rows = tuple(map(short_row, self.rows[:_MOST_ROWS]))
        return msgspec.structs.replace(self, moments=tuple(moments), rows=rows)


def trace_of(scenario: Scenario, target: Target, directory: Path) -> Trace:
    """Replay a scenario; one that can't be played has a `reason`, and maybe a place."""
    target, steps, decisive = completed(target), scenario.steps, decisive_step(scenario)
    is_killed = kills(scenario)
    if is_killed:
        if decisive is not None:
            decisive -= sum(isinstance(step, Conditional) for step in steps[:decisive])
        steps = tuple(step for step in steps if not isinstance(step, Conditional))
    watch = Watch(target)
    try:
        with prepared(steps):
            trace = _Played(msgspec.structs.replace(scenario, steps=steps), target, directory, decisive, watch).trace()
    except Exception as error:  # noqa: BLE001 - a broken target may raise anything; its finding must still be reported
        error.__traceback__ = None
        trace = Trace(reason=f"replaying it failed: {error!r}")
    if is_killed:
        trace = Trace(reason="its processes are killed, and their memory can't be read")
    return writable(msgspec.structs.replace(trace, where=watch.place_of(trace.check)))


class _Played:
    """The scenario while it is played; `decisive` is the index of the failing step, None: the checks at the end."""

    def __init__(self, scenario: Scenario, target: Target, directory: Path, decisive: int | None, watch: Watch) -> None:
        record = any(isinstance(step, CrashAt | Damage) for step in scenario.steps)
        self._scenario = scenario
        self._decisive = len(scenario.steps) if decisive is None else decisive
        self._watch = watch
        self._executor = Executor(target, scenario.configuration, directory, record=record)
        self._numbers: dict[str, int] = {}
        self._last: dict[str, View] = {name: {} for name in VIEWS}
        self._moments: list[Moment] = []
        self._first: tuple[int, tuple[Row, ...]] | None = None
        self._violation: Violation | None = None

    def trace(self) -> Trace:
        """Play it to its end, or to the violation."""
        with contextlib.suppress(Violation), self._executor:
            for number, step in enumerate((*self._scenario.steps, None)):
                try:
                    self._do(step, is_decisive=number == self._decisive)
                except Violation as violation:
                    self._violation = violation
                    self._take(step)
                    raise
                self._take(step)
        first, rows = self._first or (None, ())
        check, message = (one.code, one.message) if (one := self._violation) else ("", "")
        return Trace(tuple(self._moments), first, check, rows, message=message)

    def _do(self, step: Step | None, *, is_decisive: bool) -> None:
        executor = self._executor
        if step is None:
            # The small change at the end may show it, too.
            with self._watch.tracing() if is_decisive else contextlib.nullcontext():
                executor.end()
            return
        # Only the session under fault is traced, not its shadow.
        with self._watch.calls_of(executor.real, step) if is_decisive else contextlib.nullcontext():
            try:
                executor.do(step)
            finally:
                if is_decisive and isinstance(step, Interleave):
                    self._watch.hops = executor.hops

    def _take(self, step: Step | None) -> None:
        executor, violation = self._executor, self._violation
        armed = tuple(_condition(one) for one in _in_force(executor.steps) if one.slot in executor.armed)
        views: Mapping[str, View] = {}
        if isinstance(step, Conditional | ClockJump | ClockPace) and violation is None:
            lanes = self._as_before()
        elif isinstance(step, CrashAt) and violation is not None:
            views, lanes = self._seen_by(violation)
        else:
            cold = isinstance(step, Restart | CrashAt) and not armed and violation is None
            views, lanes = self._look(cold=cold)
        self._moments += self._moments_of(step, armed, lanes)
        if self._first is None:
            rows = rows_of(views) or (rows_of(violation.sides) if violation else ())
            if rows or violation:
                self._first = len(self._moments), rows

    def _moments_of(self, step: Step | None, armed: tuple[str, ...], lanes: dict[str, Lane]) -> list[Moment]:
        """One moment; for a schedule one for each hop, of which the last has the result of both calls."""
        outcome = self._violation.message if self._violation else _outcome(self._executor, step)
        hops = hops_in_words(self._executor.hops, step) if isinstance(step, Interleave) else []
        if not hops:
            return [Moment(_AT_THE_END if step is None else str(step), outcome, armed, lanes)]
        between = {name: Lane(None, reason="in the middle of a call") for name in VIEWS}
        caller, what, _went = hops[-1]
        return [
            *(Moment(what, went, armed, between, caller) for caller, what, went in hops[:-1]),
            Moment(what, outcome, armed, lanes, caller),
        ]

    def _as_before(self) -> dict[str, Lane]:
        """The lanes of a step that changes nothing in the store."""
        if not self._moments:
            return {name: Lane(None, reason="not open yet") for name in VIEWS}
        return {name: Lane(lane.state, (), lane.reason) for name, lane in self._moments[-1].lanes.items()}

    def _look(self, *, cold: bool) -> tuple[Mapping[str, View], dict[str, Lane]]:
        with self._executor.armed.paused():
            views, failing = views_of(self._executor.real, memory=not cold)
        closed = "not read: a session that has just started stays cold" if cold else "not open"
        return views, self._lanes(views, {name: failing.get(name, closed) for name in VIEWS})

    def _seen_by(self, violation: Violation) -> tuple[Mapping[str, View], dict[str, Lane]]:
        """The views that the check read from a crash state: the files themselves are not placed where it fails."""
        views: dict[str, View] = {name: violation.sides[name] for name in VIEWS if name in violation.sides}
        return violation.sides, self._lanes(views, dict.fromkeys(VIEWS, "lost in the crash"))

    def _lanes(self, views: Mapping[str, View], reasons: Mapping[str, str]) -> dict[str, Lane]:
        lanes = {}
        for name in VIEWS:
            if (view := views.get(name)) is None:
                lanes[name] = Lane(None, reason=short(reasons[name]))
                continue
            lanes[name] = Lane(self._number(view), changes(self._last[name], view))
            self._last[name] = view
        return lanes

    def _number(self, view: View) -> int:
        return self._numbers.setdefault(in_order(dict(view)), len(self._numbers))


def _in_force(steps: list[Step]) -> list[Conditional]:
    """The conditions that were set last, by their slots."""
    found: dict[str, Conditional] = {}
    for step in steps:
        if isinstance(step, Conditional):
            found[step.slot] = step
        elif isinstance(step, Clear):
            found.clear()
    return list(found.values())


def _condition(step: Conditional) -> str:
    return str(step).removeprefix("arm ")


def _outcome(executor: Executor, step: Step | None) -> str:
    """The outcome of the last step that was played, in words."""
    if step is None:
        return "acknowledged"
    if isinstance(step, Interleave):
        return "both calls gave the result of a serial order"
    if isinstance(step, Clear):
        return "nothing is armed"
    fired = executor.armed.fired
    said = "armed" if isinstance(step, Conditional) else str(executor.real.oracle.answer)
    return said + (f"; {fired} fired" if fired else "")
