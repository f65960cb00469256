"""A finding's scenario as a timeline: after every step, what memory, disk and a reopened copy show.

The scenario is played once more, and looked at with care: what is armed is paused for a look, a step that only arms
something changes no state and is not looked after, and a session that has just started is left cold, since what it has
read can't fail any more. States are numbered in the order in which they were first seen, so that two views are the
same where their numbers are.

Not covered: a scenario that kills is played in processes of its own, into whose memory nobody can look.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.finding.trace import Row, hops_of, outcome_of, rows_of, views_of
from tornpage.scenarios.execution.injection import prepared
from tornpage.scenarios.execution.kill.executor import kills
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Clear, ClockJump, Conditional, CrashAt, Restart, Scenario, Step
from tornpage.scenarios.model.target import Target, View

LANES: Final = ("memory", "disk", "reopened")
# More is no longer looked at, but read: the scenario itself has all of its steps.
_MOST_STEPS: Final = 60
_MOST_CHANGES: Final = 8
_LONGEST_TEXT: Final = 160
_LONGEST_OUTCOME: Final = 500
_MOST_ROWS: Final = 20


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


class Timeline(msgspec.Struct, frozen=True):
    """A whole scenario. `first_difference` numbers the moment (from 1) after which views differ, or a check fails.

    `check` is what failed this time, empty where nothing did; `rows` are the keys that differ at the first difference;
    `reason` says why there is no moment at all.
    """

    moments: tuple[Moment, ...] = ()
    first_difference: int | None = None
    check: str = ""
    rows: tuple[Row, ...] = ()
    reason: str = ""


def timeline_of(scenario: Scenario, target: Target, directory: Path) -> Timeline:
    """Play a scenario once more and look after each step; what can't be played or told has a `reason`."""
    if kills(scenario):
        return Timeline(reason="its processes are killed: nobody can look into their memory")
    if len(scenario.steps) > _MOST_STEPS:
        return Timeline(reason=f"it has {len(scenario.steps)} steps; up to {_MOST_STEPS} are drawn")
    try:
        with prepared(scenario.steps):
            return _Playing(scenario, target, directory).timeline()
    except Exception as error:  # noqa: BLE001 - a broken target may raise anything; its finding is worth more than its picture
        error.__traceback__ = None
        return Timeline(reason=f"playing it once more failed: {error!r}")


class _Playing:
    """The scenario while it is played."""

    def __init__(self, scenario: Scenario, target: Target, directory: Path) -> None:
        record = any(isinstance(step, CrashAt) for step in scenario.steps)
        self._scenario = scenario
        self._executor = Executor(target, scenario.configuration, directory, record=record)
        self._numbers: dict[bytes, int] = {}
        self._last: dict[str, View] = {name: {} for name in LANES}
        self._moments: list[Moment] = []
        self._first: tuple[int, tuple[Row, ...]] | None = None

    def timeline(self) -> Timeline:
        """Play it to its end, or to the violation."""
        check = ""
        with contextlib.suppress(Violation), self._executor as executor:
            for step in (*self._scenario.steps, None):
                try:
                    executor.end() if step is None else executor.do(step)
                except Violation as violation:
                    check = violation.code
                    self._take(step, violation)
                    raise
                self._take(step, None)
        number, rows = self._first or (None, ())
        return Timeline(tuple(self._moments), number, check, rows[:_MOST_ROWS])

    def _take(self, step: Step | None, violation: Violation | None) -> None:
        executor = self._executor
        outcome = violation.message if violation else outcome_of(executor)
        if step is None and not violation:
            outcome = "acknowledged"
        armed = tuple(_condition(one) for one in _in_force(executor.steps) if one.slot in executor.armed)
        views: Mapping[str, View] = {}
        if isinstance(step, Conditional | ClockJump) and violation is None:
            lanes = self._as_before()
        elif isinstance(step, CrashAt) and violation is not None:
            views, lanes = self._seen_by(violation)
        else:
            cold = isinstance(step, Restart | CrashAt) and not armed and violation is None
            views, lanes = self._look(cold=cold)
        text, caller = str(step) if step is not None else "with nothing armed, one more small change", ""
        for hop in (hops := hops_of(executor, step, outcome))[:-1]:
            between = {name: Lane(None, reason="in the middle of a call") for name in LANES}
            self._moments.append(Moment(hop.step, _short(hop.outcome, _LONGEST_OUTCOME), armed, between, hop.caller))
        if hops:
            text, caller = hops[-1].step, hops[-1].caller
        self._moments.append(Moment(text, _short(outcome, _LONGEST_OUTCOME), armed, lanes, caller))
        if self._first is None:
            rows = rows_of(views) or (rows_of(violation.sides) if violation else ())
            if rows or violation:
                self._first = len(self._moments), tuple(_short_row(row) for row in rows)

    def _as_before(self) -> dict[str, Lane]:
        """Nothing was done to the store."""
        if not self._moments:
            return {name: Lane(None, reason="not open yet") for name in LANES}
        return {name: Lane(lane.state, (), lane.reason) for name, lane in self._moments[-1].lanes.items()}

    def _look(self, *, cold: bool) -> tuple[Mapping[str, View], dict[str, Lane]]:
        with contextlib.ExitStack() as out_of_reach:
            for armed, _scope in self._executor.armed.values():
                out_of_reach.enter_context(armed.paused())
            views, failing = views_of(self._executor.real, memory=not cold)
        closed = "not asked: a session that has just started stays cold" if cold else "not open"
        return views, self._lanes(views, {name: failing.get(name, closed) for name in LANES})

    def _seen_by(self, violation: Violation) -> tuple[Mapping[str, View], dict[str, Lane]]:
        """What the check saw of what a crash left: the files themselves are not put down where it fails."""
        views: dict[str, View] = {name: violation.sides[name] for name in LANES if name in violation.sides}
        return violation.sides, self._lanes(views, dict.fromkeys(LANES, "gone with the crash"))

    def _lanes(self, views: Mapping[str, View], reasons: Mapping[str, str]) -> dict[str, Lane]:
        lanes = {}
        for name in LANES:
            if (view := views.get(name)) is None:
                lanes[name] = Lane(None, reason=_short(reasons[name]))
                continue
            lanes[name] = Lane(self._number(view), _changes(self._last[name], view))
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


def _changes(before: View, after: View) -> tuple[str, ...]:
    lines = []
    for key in sorted({*before, *after}):
        if key not in before:
            lines.append(f"+ {key}: {_text(after[key])}")
        elif key not in after:
            lines.append(f"- {key}")
        elif before[key] != after[key]:
            lines += _change(key, before[key], after[key])
    if len(lines) > _MOST_CHANGES:
        lines[_MOST_CHANGES:] = [f"and {len(lines) - _MOST_CHANGES} more"]
    return tuple(map(_short, lines))


def _change(key: str, before: Any, after: Any) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        fields = sorted(field for field in {*before, *after} if before.get(field) != after.get(field))
        return [f"{key} {field}: {_text(before.get(field))} → {_text(after.get(field))}" for field in fields]
    return [f"{key}: {_text(before)} → {_text(after)}"]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        # Of a new record what is there is worth reading, not the many fields that are empty.
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items() if one not in (None, "", 0, [], {}))
    return "nothing" if value is None else str(value)


def _short(text: str, longest: int = _LONGEST_TEXT) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _short_row(row: Row) -> Row:
    """The row with only the fields that differ, where its sides are records."""
    records: list[dict[str, Any]] = [side for side in row.sides.values() if isinstance(side, dict)]
    if len(records) < len(row.sides) or len(records) < 2:
        return Row(row.key, {name: None if side is None else _short(_text(side)) for name, side in row.sides.items()})
    fields = sorted({field for record in records for field in record})
    differing = [field for field in fields if any(record.get(field) != records[0].get(field) for record in records)]
    return Row(
        row.key,
        {
            name: _short("; ".join(f"{field}: {_text(side.get(field))}" for field in differing))
            for name, side in row.sides.items()
        },
    )
