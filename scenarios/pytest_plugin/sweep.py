"""The sweep of one test: twice without a fault, then once with each; and the reports that pytest gets of it.

The test stays one test: its setup is reported as it was without faults, its call with all that came of the points, and
the last teardown.
"""

import shlex
from collections import Counter
from typing import Any, Final

import pytest

from tornpage import faults
from tornpage.scenarios.pytest_plugin.judging import ABSORBED, FAILED, SURFACED, VACUOUS
from tornpage.scenarios.pytest_plugin.markers import EveryFault
from tornpage.scenarios.pytest_plugin.points import sample
from tornpage.scenarios.pytest_plugin.rerun.retry import Retrying, SourceError
from tornpage.scenarios.pytest_plugin.rerun.runs import Run, Runner

MOST_IN_FULL: Final = 3
_MOST_LINES: Final = 50
_BY_ITSELF: Final = "This is without any fault: the test fails by itself, and no fault was tried."
_AGAIN: Final = (
    "The test passed once, and fails when it is run again without any fault: something stays from one run to the next. "
    "No fault was tried."
)


class _Failure:
    """A fault point at which something was wrong."""

    def __init__(self, plan: faults.FaultPlan, run: Run) -> None:
        self.plan = plan
        self.message = run.verdict.message if run.verdict is not None else ""
        self.report = run.report


class Sweep:
    """The points of one test, and what came of them."""

    def __init__(self, runner: Runner, asked: EveryFault, most: int | None, only: faults.FaultPlan | None) -> None:
        self.runner = runner
        self.asked = asked
        self.most = most
        self.only = only
        self.counts: Counter[str] = Counter()
        self.failures: list[_Failure] = []
        self.plans: list[faults.FaultPlan] = []
        self.possible = 0
        self.seconds = 0.0
        # Whether the call made any operation at all; and its second run, where that failed without a fault.
        self.made_any = False
        self.fails_again: pytest.CallInfo[Any] | None = None

    def run(self, nextitem: pytest.Item | None) -> tuple[Run, Run]:
        """Run everything; the first and the last run."""
        if self.asked.retry:
            item: Any = self.runner.item
            self.runner.retrying = Retrying(getattr(item, "obj", None), item.config)
        first = last = self._without_fault(nextitem)
        if first.passed and self.plans:
            # What is made once and stays, by a fixture with a wider scope, is there from the second run on.
            second = last = self._without_fault(nextitem)
            self.fails_again = None if second.passed else second.call
        for number, plan in enumerate(self.plans if last.passed else (), start=1):
            last = self.runner.under(plan, self.runner.again if number < len(self.plans) else nextitem)
            self._count(last)
            self._took(plan, last)
        self.runner.finish(nextitem)
        return first, last

    def _without_fault(self, nextitem: pytest.Item | None) -> Run:
        run = self.runner.without_fault(lambda run: self.runner.again if self._plan(run) else nextitem)
        self._count(run)
        self.runner.leaves_transactions |= run.in_transaction
        return run

    def _plan(self, run: Run) -> list[faults.FaultPlan]:
        """The points to try; none if the test does not pass without a fault."""
        self.plans = []
        if run.call is None or run.call.excinfo is not None:
            return []
        self.made_any |= bool(run.operations)
        plans = [self.only] if self.only is not None else self.asked.choice.points(run.operations)
        self.possible = len(plans)
        self.plans = sample(plans, self.most)
        return self.plans

    def _count(self, run: Run) -> None:
        for phase in (run.setup, run.call, run.teardown):
            self.seconds += phase.duration if phase is not None else 0.0
        self.counts["left_open"] += run.left_open

    def _took(self, plan: faults.FaultPlan, run: Run) -> None:
        assert run.verdict is not None  # noqa: S101 - a run under a fault is judged
        kind = run.verdict.kind
        self.counts["points"] += 1
        self.counts["fired"] += run.fired
        self.counts[kind] += 1
        self.counts["repeated"] += run.repeated
        self.counts["not_repeated"] += kind == SURFACED and not run.repeated
        if kind in (FAILED, VACUOUS):
            self.failures.append(_Failure(plan, run))
            if len(self.failures) > MOST_IN_FULL:
                self.failures[-1].report = None

    # -- telling -------------------------------------------------------------------------------------------

    def vacuous(self) -> str:
        """Why the sweep as a whole says nothing, "" where it does."""
        if not self.made_any:
            return (
                "every_fault tested nothing: the call of this test made no I/O beneath SQLite. It has no database, or "
                "one in memory, or one that was opened before the tests began"
            )
        if not self.plans:
            return (
                "every_fault tested nothing: none of the operations of this test can meet any of the effects asked for"
            )
        # A single point that was asked for may be one of those that can't be repeated.
        if self.asked.retry and self.only is None and self.counts[SURFACED] and not self.counts["repeated"]:
            return "every_fault(retry=True) repeated nothing: no fault surfaced in a statement that could be repeated"
        return ""

    def properties(self) -> list[tuple[str, object]]:
        """What JUnit is told, and the summary is made of."""
        vacuous = self.counts[VACUOUS] + bool(self.vacuous())
        told: list[tuple[str, object]] = [
            ("faults_points", self.counts["points"]),
            ("faults_fired", self.counts["fired"]),
            ("faults_surfaced", self.counts[SURFACED]),
            ("faults_absorbed", self.counts[ABSORBED]),
            ("faults_failed", self.counts[FAILED]),
            ("faults_vacuous", vacuous),
        ]
        if self.possible > len(self.plans):
            told.append(("faults_possible", self.possible))
        if self.asked.retry:
            told.append(("faults_repeated", self.counts["repeated"]))
            told.append(("faults_not_repeated", self.counts["not_repeated"]))
        if self.counts["left_open"]:
            told.append(("faults_left_open", self.counts["left_open"]))
        return told + [("faults_failed_at", f"{one.plan}: {one.message}") for one in self.failures[:_MOST_LINES]]

    def headline(self) -> str:
        """The failure in one line."""
        first = self.failures[0]
        many = f"{len(self.failures)} of {self.counts['points']} fault points failed"
        return f"{many}; at {first.plan}: {first.message}"

    def lines(self) -> str:
        """Every failing point, with the line that runs it again."""
        shown = self.failures[:_MOST_LINES]
        told = [f"{one.plan}: {one.message}\n    {self.replay(one.plan)}" for one in shown]
        if len(self.failures) > len(shown):
            told.append(f"and {len(self.failures) - len(shown)} more")
        return "\n".join(told)

    def replay(self, plan: faults.FaultPlan) -> str:
        """The line that runs this point again."""
        return f"pytest {shlex.quote(self.runner.item.nodeid)} --faults-at {shlex.quote(str(plan))}"


def sweep(
    runner: Runner, nextitem: pytest.Item | None, asked: EveryFault, most: int | None, only: faults.FaultPlan | None
) -> list[pytest.TestReport]:
    """Sweep one test; the reports of its setup, call and teardown."""
    item = runner.item
    work = Sweep(runner, asked, most, only)
    try:
        first, last = work.run(nextitem)
    except SourceError as error:
        return _refused(item, f"every_fault(retry=True) needs the source of the test: {error}")
    if first.call is not None and first.call.excinfo is None and work.fails_again is None:
        item.user_properties += work.properties()
    reports = [_report(item, first.setup)]
    if first.call is not None:
        reports.append(_of_call(work, first))
    if last.teardown is not None:
        reports.append(_report(item, last.teardown))
    return reports


def _of_call(work: Sweep, first: Run) -> pytest.TestReport:
    item = work.runner.item
    assert first.call is not None  # noqa: S101 - the caller has looked
    if first.call.excinfo is not None or work.fails_again is not None:
        report = _report(item, work.fails_again or first.call)
        report.sections.append(("every_fault", _AGAIN if work.fails_again is not None else _BY_ITSELF))
        return report
    if not work.failures and not work.vacuous():
        report = _report(item, first.call)
    elif not work.failures:
        report = _failing(item, work.vacuous())
    else:
        report = _with_points(work)
    report.duration = work.seconds
    report.user_properties = list(item.user_properties)
    return report


def _with_points(work: Sweep) -> pytest.TestReport:
    """The first failing point as the test's own failure; below it all of them, and the next ones in full."""
    head, *others = work.failures
    report = head.report or _failing(work.runner.item, head.message)
    report.when, report.outcome = "call", "failed"
    sections = [("fault points that failed", work.lines())]
    sections += [(f"at {one.plan}", one.report.longreprtext) for one in others if one.report is not None]
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = work.headline()
    add = getattr(report.longrepr, "addsection", None)
    if add is None:
        report.longrepr = "\n".join([report.longreprtext, *(f"--- {name}\n{text}" for name, text in sections)])
        return report
    for name, text in sections:
        add(name, text)
    return report


def _report(item: pytest.Item, call: pytest.CallInfo[Any]) -> pytest.TestReport:
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    return report


def _failing(item: pytest.Item, message: str) -> pytest.TestReport:
    call = pytest.CallInfo.from_call(lambda: pytest.fail(message, pytrace=False), when="call")
    return _report(item, call)


def _refused(item: pytest.Item, message: str) -> list[pytest.TestReport]:
    """A test that was not run at all."""
    setup = pytest.CallInfo.from_call(lambda: None, when="setup")
    teardown = pytest.CallInfo.from_call(lambda: None, when="teardown")
    return [_report(item, setup), _failing(item, message), _report(item, teardown)]
