"""The sweep: fail operation 1, 2, 3 … of each call, with every effect that a real system has, once and sticky.

Method. The point loop (`search.points`) over all fault points of each call (`search.workload` counts its operations). A
series (kind, role, timing, effect) of a call ends at the number of operations that the dry run counted: the target is
deterministic, so operation n always exists up to that number. A point whose fault does not fire is reported as vacuous,
never skipped. A target's scripts, if any, are played once without a fault.

A sticky fault equals the single one if no operation that it matches comes after the one that failed: both let the call,
and all later checks, run in the same way. The result of one is then reported for the other without playing it, and
counted (`equivalent`).

Not covered: two faults in one call (the fuzz does that), and power loss.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.events import Extent, Series
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Arm, Depth, Scenario
from tornpage.scenarios.model.target import Configuration, Target
from tornpage.scenarios.model.work import Need, Part
from tornpage.scenarios.search.later_reads import LaterReads
from tornpage.scenarios.search.next_calls import NextCalls
from tornpage.scenarios.search.points import Met, Point, PointSearch
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.scripts import KIND as SCRIPTS
from tornpage.scenarios.search.scripts import parts_of_scripts, play_script
from tornpage.scenarios.search.warm_reads import WarmReads
from tornpage.scenarios.search.workload import Start

# Operations that a plan names together with their opposite, or with their milder form.
_PLAN_KINDS: Final = {
    faults.SHM_RELEASE: "shmlock",
    faults.BEGIN_LOCK: "begin",
    faults.COMMIT_LOCK: "commit",
    faults.COMMIT_END: "commit",
    faults.STATEMENT_LOCK: "statement",
    faults.STATEMENT_RISE: "statement",
}


class Sweep(PointSearch):
    """Sweeps one target over configurations and depths; `plan` is one fault plan for every call instead of all."""

    name = "sweep"
    looks_when_idle = True

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        depths: tuple[str, ...] | None = None,
        most_points_per_call: int | None = None,
        every_operation: bool = False,
        seed: int = 0,
        plan: faults.FaultPlan | None = None,
        home: Path | None = None,
    ) -> None:
        super().__init__(
            target,
            recorder,
            directory,
            configurations=configurations,
            depths=depths,
            most_points_per_call=most_points_per_call,
            every_operation=every_operation,
            seed=seed,
            home=home,
        )
        self.plan = plan
        # The last point whose sticky fault would have met nothing more than the single one; and its result.
        self._same_for_good: tuple[Point, Met] | None = None
        self._later_reads = LaterReads(target, directory / "later")
        self._warm_reads = WarmReads(target, directory / "warm")
        self._next_calls = NextCalls(target, directory / "next")
        # Whether the current point is tried again in other ways: in a warm session, then with a further call.
        self._is_due = self._is_warm = self._has_next = False

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """The depths, the number of points of a call, and the single fault plan, if any."""
        return {
            "depths": plan.depths,
            "most_points_per_call": plan.profile.points_per_call,
            "every_operation": plan.profile.every_operation,
            "plan": plan.by_hand,
        }

    def parts(self) -> Iterator[Part]:
        """The calls of the workload in each configuration, then the target's scripts in one of them."""
        yield from super().parts()
        if self.plan is None:
            yield from parts_of_scripts(self.target, self.configurations[0])

    def search(self, part: Part) -> bool:
        """Try every point of a part, or play its scripts; whether all were tried."""
        if part.kind != SCRIPTS:
            return super().search(part)
        for script in [*self.target.scripts][part.first : part.end]:
            if self.enough():
                return False
            calls, wrong = play_script(self.target, part.configuration, script, self.home)
            self.counts["scripted"] += calls
            if wrong is not None:
                self.counts["findings"] += 1
                self.found(*wrong)
        return True

    def needs(self) -> Iterator[Need]:
        """Calls, and a fault that fired."""
        yield from super().needs()
        yield Need("fired", "no fault fired at all")

    def extent(self, *, complete: bool) -> Extent:
        """Whether all was tried; not stated for a plan by hand."""
        return "" if self.plan is not None else super().extent(complete=complete)

    def points_of(self, configuration: Configuration, start: Start) -> Iterator[Point]:
        """Every fault point of one call; or the given plan."""
        del configuration
        if self.plan is not None:
            first = self.plan.faults[0]
            depth: Depth = "statement" if first.kind in faults.STATEMENT_KINDS else "vfs"
            series = Series(first.kind, first.role, first.timing, first.effect)
            yield Point(start, Arm(str(self.plan), depth), series)
            return
        for (kind, role), count in sorted(start.counts.items()):
            depth = "statement" if _PLAN_KINDS.get(kind, kind) in faults.STATEMENT_KINDS else "vfs"
            if depth in self.depths:
                yield from self._series(start, kind, role, count, depth)

    def _series(self, start: Start, kind: str, role: str, count: int, depth: Depth) -> Iterator[Point]:
        plan_kind = _PLAN_KINDS.get(kind, kind)
        for timing, effect in faults.effects_of(plan_kind, role):
            fault = faults.Fault(plan_kind, effect, role, timing=timing)
            series = Series(plan_kind, role, timing, effect)
            if kind not in faults.operations_of(fault):
                continue
            for ordinal in range(1, count + 1):
                for last in (ordinal, None):
                    plan = faults.FaultPlan((fault.at(faults.When(ordinal, last)),))
                    yield Point(start, Arm(str(plan), depth), series, ((kind, role), ordinal))

    def is_watched(self, point: Point) -> bool:
        """Whether it is at the statement depth."""
        return isinstance(point.step, Arm) and point.step.depth == "statement"

    def play(self, configuration: Configuration, point: Point) -> Any:
        """Try one point; one of a plain file with what may follow it, another one perhaps in other ways, too."""
        self._is_due = self._is_warm = self._has_next = False
        if _is_of_a_file(point):
            self._later_reads.prepare(configuration, point.start, self.home)
        condition = super().play(configuration, point)
        if self._is_due:
            scenario = super().scenario(configuration, point)
            self._is_warm = True
            self._warm_reads.judge(scenario, point.start, self.home)
            self._is_warm, self._has_next = False, True
            self._next_calls.judge(scenario, point.start, self.home)
            self._has_next = False
        return condition

    def judge_reads(self, trial: Trial, point: Point, answer: Answer) -> None:
        """After a fault of a plain file: what the store returns at once."""
        if _is_of_a_file(point):
            self._later_reads.read(trial, point.start, answer)
        else:
            self._is_due = self._warm_reads.is_due(point.start, answer, trial, point.series.kind)

    def judge_later(self, trial: Trial, point: Point, answer: Answer) -> None:
        """After a fault of a plain file: what later calls return."""
        if _is_of_a_file(point):
            self._later_reads.follow(trial, point.start, answer)

    def scenario(self, configuration: Configuration, point: Point) -> Scenario:
        """One point as a scenario, with the steps that came before in a warm session, or that followed it."""
        scenario = super().scenario(configuration, point)
        if self._is_warm:
            return self._warm_reads.scenario(scenario, point.start)
        if self._has_next:
            return self._next_calls.scenario(scenario, point.start)
        later = self._later_reads.made if _is_of_a_file(point) else ()
        return msgspec.structs.replace(scenario, steps=(*scenario.steps, *later))

    def try_point(self, configuration: Configuration, point: Point) -> None:
        """Try one point; if it is equivalent to the one before, report the same result."""
        before, self._same_for_good = self._same_for_good, None
        if before is not None and _is_for_good(point, before[0]):
            self.counts["equivalent"] += 1
            self.report_point(configuration, point, before[1])
        else:
            super().try_point(configuration, point)

    def took(self, configuration: Configuration, point: Point, met: Met) -> bool:
        """Count a point; one that did not fire is vacuous."""
        if not met.fired and self.plan is None:
            self.vacuous(f"{point.condition} in {point.start.action} at {configuration} never fired")
        if not point.is_sticky and point.operation is not None and _matched(met) == point.operation[1]:
            # The operation that failed was the last one that it matches.
            self._same_for_good = point, met
        return super().took(configuration, point, met)


def _is_of_a_file(point: Point) -> bool:
    """Whether it is a fault of a plain file, and not beneath SQLite."""
    return point.series.kind.startswith("file-")


def _matched(met: Met) -> int | None:
    """How many operations the fault of a point has matched; None if a check failed."""
    return sum(met.condition.injector.matches) if isinstance(met.condition, faults.Armed) else None


def _is_for_good(point: Point, once: Point) -> bool:
    """Whether a point is the sticky fault of another one, at the same operation of the same call."""
    same = point.start is once.start and point.series == once.series and point.operation == once.operation
    return same and point.is_sticky and not once.is_sticky
