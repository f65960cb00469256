"""A finding's scenario, played once more and told step by step: all that reports say of it is read from here.

Method. After every step it is looked at what memory, disk and a reopened copy show (`finding.views`), with care: what
is armed is paused for a look, a step that only arms something changes no state and is not looked after, and a session
that has just started is left cold, since what it has read can't fail any more. States are numbered in the order in
which they were first seen, so that two views are the same where their numbers are. The first step after which the
views are not the same, or at which a check fails, is the one to look at. The call that goes wrong is traced for the
place in the code (`finding.source_location`).

Not covered: a scenario that kills is played in processes of its own, into whose memory this one can't look. It is
played without what kills it, for the place alone.
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
from tornpage.scenarios.model.fingerprint import decisive_step
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import (
    Clear,
    ClockJump,
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
    """What one view showed: `state` is its number, None where it was not, or could not be, looked at (`reason`).

    `changes` say in words what is not as it was in the state that this lane showed before.
    """

    state: int | None
    changes: tuple[str, ...] = ()
    reason: str = ""


class Moment(msgspec.Struct, frozen=True):
    """One step, what it came to, what was armed at its end, and the lanes by name.

    `caller`: which of two callers took it, "" where there is one.
    """

    step: str
    outcome: str
    armed: tuple[str, ...]
    lanes: dict[str, Lane]
    caller: str = ""


class Trace(msgspec.Struct, frozen=True):
    """A whole scenario. `first_difference` numbers the moment (from 1) after which views differ, or a check fails.

    `check` is what failed this time, empty where nothing did, and `message` what it said; `rows` are the keys that
    differ at the first difference; `reason` says why there is no moment at all. `where` is ``file:line`` in the code
    under test, "" where that is not known.
    """

    moments: tuple[Moment, ...] = ()
    first_difference: int | None = None
    check: str = ""
    rows: tuple[Row, ...] = ()
    reason: str = ""
    message: str = ""
    where: str = ""

    def shortened(self) -> "Trace":
        """As it is kept with its finding: long texts are cut, and of many rows the first ones are there."""
        moments = (msgspec.structs.replace(one, outcome=short(one.outcome, _LONGEST_OUTCOME)) for one in self.moments)
        rows = tuple(map(short_row, self.rows[:_MOST_ROWS]))
        return msgspec.structs.replace(self, moments=tuple(moments), rows=rows)


def trace_of(scenario: Scenario, target: Target, directory: Path) -> Trace:
    """Play a scenario once more; what can't be played has a `reason`, and maybe a place."""
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
    except Exception as error:  # noqa: BLE001 - a broken target may raise anything; its finding is worth more
        error.__traceback__ = None
        trace = Trace(reason=f"playing it once more failed: {error!r}")
    if is_killed:
        trace = Trace(reason="its processes are killed: this one can't look into their memory")
    return msgspec.structs.replace(trace, where=watch.place)


class _Played:
    """The scenario while it is played; `decisive` is the place of the step that goes wrong, None: what comes after."""

    def __init__(self, scenario: Scenario, target: Target, directory: Path, decisive: int | None, watch: Watch) -> None:
        record = any(isinstance(step, CrashAt | Damage) for step in scenario.steps)
        self._scenario = scenario
        self._decisive = len(scenario.steps) if decisive is None else decisive
        self._watch = watch
        self._executor = Executor(target, scenario.configuration, directory, record=record)
        self._numbers: dict[bytes, int] = {}
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
            # Even the small change at the end may show it.
            with self._watch.tracing() if is_decisive else contextlib.nullcontext():
                executor.end()
            return
        # Only the session that meets the fault is of interest, not its shadow.
        with self._watch.calls_of(executor.real, step) if is_decisive else contextlib.nullcontext():
            executor.do(step)

    def _take(self, step: Step | None) -> None:
        executor, violation = self._executor, self._violation
        armed = tuple(_condition(one) for one in _in_force(executor.steps) if one.slot in executor.armed)
        views: Mapping[str, View] = {}
        if isinstance(step, Conditional | ClockJump) and violation is None:
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
        """One; of a schedule one for each stretch, of which the last has what both calls came to."""
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
        """Nothing was done to the store."""
        if not self._moments:
            return {name: Lane(None, reason="not open yet") for name in VIEWS}
        return {name: Lane(lane.state, (), lane.reason) for name, lane in self._moments[-1].lanes.items()}

    def _look(self, *, cold: bool) -> tuple[Mapping[str, View], dict[str, Lane]]:
        with contextlib.ExitStack() as out_of_reach:
            for armed, _scope in self._executor.armed.values():
                out_of_reach.enter_context(armed.paused())
            views, failing = views_of(self._executor.real, memory=not cold)
        closed = "not asked: a session that has just started stays cold" if cold else "not open"
        return views, self._lanes(views, {name: failing.get(name, closed) for name in VIEWS})

    def _seen_by(self, violation: Violation) -> tuple[Mapping[str, View], dict[str, Lane]]:
        """What the check saw of what a crash left: the files themselves are not put down where it fails."""
        views: dict[str, View] = {name: violation.sides[name] for name in VIEWS if name in violation.sides}
        return violation.sides, self._lanes(views, dict.fromkeys(VIEWS, "gone with the crash"))

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
        content = msgspec.json.encode(dict(view), order="deterministic", enc_hook=repr)
        return self._numbers.setdefault(content, len(self._numbers))


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
    """What the last step that was played came to, in words."""
    if step is None:
        return "acknowledged"
    if isinstance(step, Interleave):
        return "both calls came to what one after the other comes to"
    if isinstance(step, Clear):
        return "nothing is armed any more"
    fired = {slot: armed.fired for slot, (armed, _) in executor.armed.items() if armed.fired}
    said = "armed" if isinstance(step, Conditional) else str(executor.real.oracle.answer)
    return said + (f"; {sum(fired.values())} fired" if fired else "")
