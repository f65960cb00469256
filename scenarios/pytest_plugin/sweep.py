"""The sweep of one test: twice without a fault, then once with each.

The test stays one test: its setup is reported as without faults, its call with the results of all points, and the last
teardown.

*A missing operation.* If a run makes fewer operations than were counted, the point is tried again; if its operation is
missing again, it is tried at the last operation of that kind. Only a point that never fires is vacuous. If several
threads share the work, the scheduler decides how many operations each makes: that is not a failure then, and the
summary reports it.

*State that outlives a run.* A fault may leave something behind that the program keeps: a connection that it has
reopened, a cache, rows in a database that several runs share. After a point at which the kept connections change, at
which the fault hit a file that runs share, or that failed while connections are kept, the test is run once without a
fault, so that the next point begins like the first one. If that run fails, the point has caused it; if it fails twice,
no other point can be tried.
"""

import copy
import dataclasses
import shlex
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from tornpage import faults
from tornpage.scenarios.execution.finding.shrink import rarity
from tornpage.scenarios.pytest_plugin import reports
from tornpage.scenarios.pytest_plugin.markers import EveryFault
from tornpage.scenarios.pytest_plugin.points import sample
from tornpage.scenarios.pytest_plugin.rerun import judging
from tornpage.scenarios.pytest_plugin.rerun.judging import ABSORBED, FAILED, SURFACED, VACUOUS, Verdict
from tornpage.scenarios.pytest_plugin.rerun.retry import Retrying, SourceError
from tornpage.scenarios.pytest_plugin.rerun.runs import PASSED_ON, Run, Runner
from tornpage.scenarios.pytest_plugin.rerun.threads import kind_of

MOST_IN_FULL: Final = 3
# A limit of some seconds, reached again and again, would take a whole night.
MOST_TIMED_OUT: Final = 10
_MOST_LINES: Final = 50
_BY_ITSELF: Final = "The test fails without any fault, so no fault was tried."
_AGAIN: Final = (
    "The test passed once, and fails when it is run again without any fault: some state stays from one run to the "
    "next. No fault was tried."
)


class _Failure:
    """A fault point at which something was wrong."""

    def __init__(self, plan: faults.FaultPlan, run: Run) -> None:
        self.plan = plan
        self.message = run.verdict.message if run.verdict is not None else ""
        self.report = run.report or run.reports.get("call")
        # The most ordinary failure is shown first; a fault that never fired says less than any.
        self.rarity = (run.verdict is not None and run.verdict.kind == VACUOUS, rarity(plan))


class Sweep:
    """The points of one test, and their results."""

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
        self.threads_left: Counter[str] = Counter()
        # Whether the call made any operation; on how many threads; its second run, if that failed.
        self.made_any = False
        # Databases written past every watched library, in words; and whether that leaves the test untested. One that
        # two libraries had open at once always does.
        self.passed_by = ""
        self.is_passed_by = False
        self.two_libraries = ""
        self.workers = 0
        self.failed_again: Run | None = None
        self.first: Run | None = None
        self.last: Run | None = None
        # Why not all points were tried.
        self.stopped = ""

    def run(self, nextitem: pytest.Item | None) -> None:
        """Run everything."""
        self.first = self._without_fault(lambda run: self.runner.again if self._plan(run) else nextitem)
        if self.first.passed and self.plans:
            # What a fixture with a wider scope creates once exists from the second run on.
            second = self._without_fault(lambda run: self.runner.again if self._plan(run) else nextitem)
            self.failed_again = None if second.passed else second
        if self.last is not None and self.last.passed:
            self._sweep(nextitem)

    def _sweep(self, nextitem: pytest.Item | None) -> None:
        for number, plan in enumerate(self.plans, start=1):
            is_last = number == len(self.plans)
            run = self._try(plan, nextitem if is_last else self.runner.again)
            self._took(plan, run)
            if self.counts["timed_out"] >= MOST_TIMED_OUT:
                self.stopped = f"{MOST_TIMED_OUT} points were still running after {self.runner.timeout_s:g} s"
            elif not is_last and self._needs_settling(run):
                self._settle(plan, run)
            if self.stopped:
                self.counts["untried"] = len(self.plans) - number
                return

    # -- one point -----------------------------------------------------------------------------------------

    def _try(self, plan: faults.FaultPlan, nextitem: pytest.Item | None) -> Run:
        """Try one point, again if its operation does not come, and then at the last one there was."""

        def unless_vacuous(run: Run) -> pytest.Item | None:
            is_vacuous = run.verdict is not None and run.verdict.kind == VACUOUS
            return self.runner.again if is_vacuous else nextitem

        run = self._under(plan, unless_vacuous)
        if run.verdict is None or run.verdict.kind != VACUOUS:
            return run
        moved = self._at_the_last(plan, run)
        run = self._under(plan, unless_vacuous if moved is not None else lambda _: nextitem)
        if moved is None or run.verdict is None or run.verdict.kind != VACUOUS:
            return run
        run = self._under(self._at_the_last(plan, run) or moved, lambda _: nextitem)
        self.counts["moved"] += run.fired
        return run

    def _at_the_last(self, plan: faults.FaultPlan, run: Run) -> faults.FaultPlan | None:
        """The plan at the last operation of its kind that a run made; None for none, or for a choice of plans."""
        fault = plan.faults[0]
        if self.only is not None or len(plan.faults) != 1 or not run.matches[0]:
            return None
        last = run.matches[0]
        when = faults.When(last, None if fault.when.last is None else last)
        return faults.FaultPlan((dataclasses.replace(fault, when=when),))

    def _needs_settling(self, run: Run) -> bool:
        has_failed = run.verdict is not None and run.verdict.kind == FAILED
        return run.changed_shared or run.hit_shared or (has_failed and any(True for _ in self.runner.shared))

    def _settle(self, plan: faults.FaultPlan, run: Run) -> None:
        """Run it without a fault; a failure then was caused by this point."""
        for attempt in (1, 2):
            settled = self._without_fault(lambda _: self.runner.again)
            if settled.passed:
                return
            phase = settled.failed_phase
            if attempt == 1 and phase is not None and phase.excinfo is not None:
                self._blame(plan, run, settled, judging.in_words(phase.excinfo.value))
        self.stopped = f"after {plan} the test fails even without a fault"

    def _blame(self, plan: faults.FaultPlan, run: Run, settled: Run, error: str) -> None:
        if self.failures and self.failures[-1].plan == plan:
            self.failures[-1].message += f"; and after that the test fails without any fault: {error}"
            return
        message = f"after this fault the test fails without any fault: {error}"
        run.verdict = Verdict(FAILED, message)
        run.report = next((one for one in settled.reports.values() if one.failed), None)
        self.failures.append(_Failure(plan, run))
        self.counts[FAILED] += 1

    def _under(self, plan: faults.FaultPlan, nextitem_after: Callable[[Run], pytest.Item | None]) -> Run:
        return self._counted(self.runner.under(plan, nextitem_after))

    def _without_fault(self, nextitem_after: Callable[[Run], pytest.Item | None]) -> Run:
        run = self._counted(self.runner.without_fault(nextitem_after))
        self.runner.leaves_transactions |= run.in_transaction
        return run

    def _counted(self, run: Run) -> Run:
        self.last = run
        self.seconds += run.seconds
        self.counts["left_open"] += run.left_open
        self.threads_left.update(map(kind_of, run.threads))
        self.workers = max(self.workers, run.workers)
        return run

    def _plan(self, run: Run) -> list[faults.FaultPlan]:
        """The points to try; none if the test does not pass without a fault."""
        self.plans = []
        if run.call is None or run.call.excinfo is not None:
            return []
        self.made_any |= bool(run.operations)
        self.passed_by = self.passed_by or run.passed_by
        # Other processes are out of this test's reach, which it reports; it still counts for this process.
        self.is_passed_by |= bool(run.passed_by) and not run.by_a_process
        self.two_libraries = self.two_libraries or run.two_libraries
        if self.two_libraries:
            return []
        plans = [self.only] if self.only is not None else self.asked.choice.points(run.operations)
        self.possible = len(plans)
        self.plans = sample(plans, self.most)
        return self.plans

    def _took(self, plan: faults.FaultPlan, run: Run) -> None:
        assert run.verdict is not None  # noqa: S101 - a run under a fault is judged
        kind = run.verdict.kind
        self.counts["points"] += 1
        self.counts["fired"] += run.fired
        self.counts["timed_out"] += run.timed_out
        if kind == VACUOUS and self.workers > 1 and self.only is None:
            self.counts["did_not_come"] += 1
            return
        self.counts[kind] += 1
        self.counts["repeated"] += run.repeated
        self.counts["not_repeated"] += kind == SURFACED and not run.repeated
        if kind in (FAILED, VACUOUS):
            self.failures.append(_Failure(plan, run))
            in_full = [one for one in self.failures if one.report is not None]
            if len(in_full) > MOST_IN_FULL:
                max(reversed(in_full), key=lambda one: one.rarity).report = None

    # -- report ----------------------------------------------------------------------------------------------

    def vacuous(self) -> str:
        """Why the sweep as a whole proves nothing, "" if it does."""
        if self.two_libraries or self.is_passed_by:
            return f"every_fault can't judge this test: {self.two_libraries or self.passed_by}"
        if not self.made_any:
            return (
                "every_fault tested nothing: the call of this test made no I/O below SQLite. It has no database, or "
                "one in memory, or one that was opened before the tests began; and it changes no file in tmp_path"
            )
        if not self.plans:
            return (
                "every_fault tested nothing: none of the operations of this test can have any of the requested effects"
            )
        if self.counts["points"] and not self.counts["fired"] and not self.failures:
            return "every_fault tested nothing: no fault fired at any point"
        # A single point by option may be one of those that can't be repeated.
        if self.asked.retry and self.only is None and self.counts[SURFACED] and not self.counts["repeated"]:
            return "every_fault(retry=True) repeated nothing: no fault surfaced in a statement that could be repeated"
        return ""

    def properties(self) -> list[tuple[str, object]]:
        """The properties for JUnit and the summary."""
        vacuous = self.counts[VACUOUS] + bool(self.vacuous())
        given: list[tuple[str, object]] = [
            ("tornpage_points", self.counts["points"]),
            ("tornpage_fired", self.counts["fired"]),
            ("tornpage_surfaced", self.counts[SURFACED]),
            ("tornpage_absorbed", self.counts[ABSORBED]),
            ("tornpage_failed", self.counts[FAILED]),
            ("tornpage_vacuous", vacuous),
        ]
        if self.possible > len(self.plans):
            given.append(("tornpage_possible", self.possible))
        if self.asked.retry:
            given.append(("tornpage_repeated", self.counts["repeated"]))
            given.append(("tornpage_not_repeated", self.counts["not_repeated"]))
        rare = ("left_open", "moved", "did_not_come", "untried")
        given += [(f"tornpage_{name}", self.counts[name]) for name in rare if self.counts[name]]
        if self.workers > 1:
            given.append(("tornpage_threads", self.workers))
        if self.threads_left:
            kinds = ", ".join(sorted(self.threads_left))
            given += [("tornpage_threads_left", self.threads_left.total()), ("tornpage_threads_left_kinds", kinds)]
        if self.stopped:
            given.append(("tornpage_stopped", self.stopped))
        return given + [("tornpage_failed_at", f"{one.plan}: {one.message}") for one in self.failures[:_MOST_LINES]]

    @property
    def shown_first(self) -> _Failure:
        """The most ordinary one of the failures that are shown in full."""
        return min(self.failures, key=lambda one: (one.report is None, one.rarity))

    def headline(self) -> str:
        """The failure in one line."""
        first = self.shown_first
        many = f"{len(self.failures)} of {self.counts['points']} fault points failed"
        return f"{many}; at {first.plan}: {first.message}"

    def lines(self) -> str:
        """Every failing point, with the line that runs it again."""
        shown = self.failures[:_MOST_LINES]
        lines = [f"{one.plan}: {one.message}\n    {self.replay(one.plan)}" for one in shown]
        if len(self.failures) > len(shown):
            lines.append(f"and {len(self.failures) - len(shown)} more")
        return "\n".join(lines)

    def replay(self, plan: faults.FaultPlan) -> str:
        """The line that runs this point again."""
        return f"pytest {shlex.quote(self.runner.item.nodeid)} --tornpage-at {shlex.quote(str(plan))}"

    # -- reports -------------------------------------------------------------------------------------------

    def reports(self, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        """The reports of its setup, call and teardown, once everything has been run."""
        item = self.runner.item
        first, last = self.first, self.last
        assert first is not None and last is not None  # noqa: S101, PT018 - it has been run
        teardown = last.reports.get("teardown")
        finished = self.runner.finish(nextitem)
        if teardown is not None and teardown.passed and finished is not None and finished.excinfo is not None:
            teardown = pytest.TestReport.from_item_and_call(item, finished)
        if first.call is not None and first.call.excinfo is None and self.failed_again is None:
            item.user_properties += self.properties()
        made = [first.reports["setup"]]
        if first.call is not None:
            made.append(self._of_call(first))
        if teardown is not None:
            teardown.user_properties = list(item.user_properties)
            made.append(teardown)
        return made

    def _of_call(self, first: Run) -> pytest.TestReport:
        report = first.reports["call"]
        if first.call is None or first.call.excinfo is not None:
            report.sections.append(("every_fault", _BY_ITSELF))
            return report
        if self.failed_again is not None:
            failed = next(one for one in self.failed_again.reports.values() if one.failed)
            failed.sections.append(("every_fault", _AGAIN))
            return reports.as_failure(failed)
        if self.failures:
            report = self._with_points(report)
        elif self.vacuous():
            report = reports.failed(self.runner.item, report, self.vacuous(), may_be_expected=False)
        report.duration = self.seconds
        report.user_properties = list(self.runner.item.user_properties)
        return report

    def _with_points(self, base: pytest.TestReport) -> pytest.TestReport:
        """The most ordinary failing point as the test's own failure; below it all of them, and two more in full."""
        head = self.shown_first
        others = [one for one in self.failures if one is not head]
        report = head.report
        if report is None or report.passed or not report.longrepr:
            report = reports.failed(self.runner.item, report or base, head.message)
        # The failure may be one of the last run's teardown, which is also reported as such.
        report = reports.as_failure(copy.deepcopy(report))
        sections = [("fault points that failed", self.lines())]
        sections += [(f"at {one.plan}", one.report.longreprtext) for one in others if one.report is not None]
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            crash.message = self.headline()
        add = getattr(report.longrepr, "addsection", None)
        if add is None:
            report.longrepr = "\n".join([report.longreprtext, *(f"--- {name}\n{text}" for name, text in sections)])
            return report
        for name, text in sections:
            add(name, text)
        return report

    def broken(self, error: BaseException) -> str:
        """The message after an error in tornpage itself, or in a hook that it called, with the findings so far."""
        said = ["internal error in tornpage, or in a hook that it called: no verdict on what was not tried"]
        said.append("".join(traceback.format_exception(error)))
        if self.failures:
            said.append(f"--- fault points that failed before\n{self.lines()}")
        return "\n".join(said)

    def broken_off(self, message: str, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        """The reports of a sweep that did not finish."""
        item = self.runner.item
        made = reports.by_itself(item, message)
        finished = self.runner.finish(nextitem, in_any_case=True)
        if finished is not None and finished.excinfo is not None:
            made[-1] = pytest.TestReport.from_item_and_call(item, finished)
        return made


def sweep(
    runner: Runner, nextitem: pytest.Item | None, asked: EveryFault, most: int | None, only: faults.FaultPlan | None
) -> list[pytest.TestReport]:
    """Sweep one test; return the reports of its setup, call and teardown. Raises only on an interrupt."""
    work = Sweep(runner, asked, most, only)
    try:
        if asked.retry:
            item: Any = runner.item
            runner.retrying = Retrying(getattr(item, "obj", None), item.config)
        work.run(nextitem)
        return work.reports(nextitem)
    except SourceError as error:
        message = f"every_fault(retry=True) needs the source of the test: {error}"
    except PASSED_ON:
        if work.failures:
            said = f"interrupted after {work.counts['points']} fault points; failed until then:\n{work.lines()}"
            for report in reports.by_itself(runner.item, said):
                runner.item.ihook.pytest_runtest_logreport(report=report)
        raise
    except BaseException as error:  # noqa: BLE001 - a test may fail, the session goes on
        message = work.broken(error)
    return work.broken_off(message, nextitem)
