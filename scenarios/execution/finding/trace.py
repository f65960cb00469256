"""A scenario told step by step: what each step was answered, and the three views where they first differ.

The three are what the process answers (*memory*), what a fresh reader of the file sees (*disk*), and what a copy of the
files shows when it is opened as after a crash (*reopened*). They are compared after every step; the first step after
which they are not the same, or at which a check fails, is the one to look at.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.injection import prepared
from tornpage.scenarios.execution.interleave.schedule import hops_in_words
from tornpage.scenarios.execution.kill.executor import kills
from tornpage.scenarios.execution.reopen import Reopened
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Clear, CrashAt, Interleave, Scenario, Step
from tornpage.scenarios.model.target import Target, TargetError, View


class TraceStep(msgspec.Struct, frozen=True):
    """One step, and what it came to in words; `caller`: which of two callers took it, "" where there is one."""

    step: str
    outcome: str
    caller: str = ""


class Row(msgspec.Struct, frozen=True):
    """One key at which the views are not the same; None where a view has nothing there."""

    key: str
    sides: dict[str, Any]


class Trace(msgspec.Struct, frozen=True):
    """A whole scenario: its steps up to the failing one, the check that failed, and the rows that differ there.

    `first_difference` is the number of the step (from 1) after which the views first differed, None where they never
    did; `views_fail` says, by name, which view could not be taken and why.
    """

    steps: tuple[TraceStep, ...]
    check: str | None
    message: str
    first_difference: int | None
    rows: tuple[Row, ...]
    views_fail: dict[str, str]


def trace(scenario: Scenario, target: Target, directory: Path) -> Trace:
    """Play a scenario once and trace it. Raises `TargetError`."""
    if kills(scenario):
        raise TargetError("a scenario that kills its process is not told step by step; replay it without --explain")
    with prepared(scenario.steps):
        return _traced(scenario, target, directory)


def _traced(scenario: Scenario, target: Target, directory: Path) -> Trace:
    record = any(isinstance(step, CrashAt) for step in scenario.steps)
    executor = Executor(target, scenario.configuration, directory, record=record)
    steps: list[TraceStep] = []
    first: tuple[int, tuple[Row, ...], dict[str, str]] | None = None
    violation: Violation | None = None
    with contextlib.suppress(Violation), executor:
        for step in (*scenario.steps, None):
            try:
                if step is None:
                    executor.end()
                else:
                    executor.do(step)
            except Violation as error:
                violation = error
            outcome = violation.message if violation else outcome_of(executor)
            steps += hops_of(executor, step, outcome) or [
                TraceStep(str(step or "with nothing armed, one more small change"), outcome)
            ]
            number = len(steps)
            if first is None:
                rows, failing = _differences(executor.real)
                if violation is not None and not rows:
                    rows = rows_of(violation.sides)
                if rows or violation is not None:
                    first = number, rows, failing
            if violation is not None:
                raise violation
    check, message = (violation.code, violation.message) if violation else (None, "")
    where, rows, failing = first or (None, (), {})
    return Trace(tuple(steps), check, message, where, rows, failing)


def hops_of(executor: Executor, step: Step | None, outcome: str) -> list[TraceStep]:
    """The stretches of a schedule, one a step; none where two callers did nothing. The last one has the `outcome`."""
    if not isinstance(step, Interleave):
        return []
    hops = [TraceStep(what, went, caller) for caller, what, went in hops_in_words(executor.hops, step)]
    return [*hops[:-1], msgspec.structs.replace(hops[-1], outcome=outcome)] if hops else []


def outcome_of(executor: Executor) -> str:
    """What the last step that was played came to, in words."""
    fired = {slot: armed.fired for slot, (armed, _) in executor.armed.items() if armed.fired}
    last = executor.steps[-1] if executor.steps else None
    if isinstance(last, Interleave):
        return "both calls came to what one after the other comes to"
    if isinstance(last, Clear):
        return "nothing is armed any more"
    said = "armed" if last is None or isinstance(last, Arm) else str(executor.real.oracle.answer)
    return said + (f"; {sum(fired.values())} fired" if fired else "")


def _differences(trial: Trial) -> tuple[tuple[Row, ...], dict[str, str]]:
    """The keys at which the views are not all the same, and the views that can't be taken."""
    views, failing = views_of(trial)
    return rows_of(views), failing


def views_of(trial: Trial, *, memory: bool = True) -> tuple[dict[str, View], dict[str, str]]:
    """What memory, disk and a reopened copy show now; and of the views that can't be taken, why.

    Without `memory` the session is not asked.
    """
    views: dict[str, View] = {}
    failing: dict[str, str] = {}
    copy = trial.crash_copy()
    looks: dict[str, Callable[[], View | None]] = {
        "memory": lambda: trial.live_view() if memory and trial.session is not None else None,
        "disk": lambda: trial.fresh_view(integrity=False),
        "reopened": lambda: _reopened(trial, copy),
    }
    for name, look in looks.items():
        try:
            view = look()
        except Exception as error:  # noqa: BLE001 - whatever a broken store raises is what is to be told
            failing[name] = str(error)
            error.__traceback__ = None
        else:
            if view is not None:
                views[name] = view
    return views, failing


def _reopened(trial: Trial, files: dict[str, bytes]) -> View:
    home = trial.directory.with_name("told-of-" + trial.directory.name)
    return Reopened(trial.target, trial.oracle.configuration, home).view_of(
        files, trial.environment.now_ms, trial.directory
    )


def rows_of(views: Mapping[str, View]) -> tuple[Row, ...]:
    """The keys at which views are not all the same."""
    keys = sorted({key for view in views.values() for key in view})
    rows = (Row(key, {name: view.get(key) for name, view in views.items()}) for key in keys)
    return tuple(row for row in rows if any(side != next(iter(row.sides.values())) for side in row.sides.values()))
