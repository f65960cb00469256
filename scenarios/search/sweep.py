"""The sweep: fail operation 1, 2, 3 … of each call, with every effect a real system knows, once and for good.

Method. The workload is played without a fault, configuration by configuration; before each call the files are copied,
and a dry run of the call from that copy counts its operations. Then every point of the call starts from the copy, in a
cold session: put the files down, open, arm, call, look. So the work grows with the calls, not with their square.
Opening and closing are swept like calls. The play itself is looked at, too: what is wrong without a fault is a finding
of its own, and its scenario arms nothing.

A series (kind, role, timing, effect) of a call ends at the number of operations that the dry run counted: the
target is deterministic, so operation n exists exactly then. A point within that number whose fault does not fire is
reported as vacuous, never passed over.

A part of the search is a few calls in one configuration; it plays the workload up to there for itself, which costs a
few milliseconds.

Not covered: two faults in one call (the machine does that), and power loss.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.contract import require_same_when_cold
from tornpage.scenarios.execution.reopen import Reopened
from tornpage.scenarios.execution.shrink import shown
from tornpage.scenarios.execution.snapshots import Files, held_open, place, siblings
from tornpage.scenarios.execution.trial import CLOSE, OPEN, Trial
from tornpage.scenarios.model.answers import NotCompared, agreed
from tornpage.scenarios.model.checks import Violation
from tornpage.scenarios.model.events import Finding, Place, PointTried, Series
from tornpage.scenarios.model.oracle import Answer
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import (
    Arm,
    Call,
    Clear,
    Conditional,
    CrashAt,
    Depth,
    Restart,
    Rival,
    Scenario,
    Step,
)
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View
from tornpage.scenarios.model.work import Need, Part, cut
from tornpage.scenarios.search.base import Search
from tornpage.scenarios.search.recorder import DedupKeys, Key, Recorder
from tornpage.scenarios.targets.declaration import require_as_declared

_Any = TypeVar("_Any")
_CALLS_A_PART: Final = 8
# Opening is tried before the first call, and opening, closing and opening again after the last.
_OPENINGS: Final = 4
# Operations that a plan names together with their opposite, or with their milder form.
_PLAN_KINDS: Final = {
    faults.SHM_RELEASE: "shmlock",
    faults.BEGIN_LOCK: "begin",
    faults.COMMIT_LOCK: "commit",
    faults.COMMIT_END: "commit",
}


# A call as it was met in the workload: its step and action, files and view before it, the view after it, its stages,
# and what it answered.
_Met = tuple[int, Action, Files, View, View, tuple[View, ...], Answer | None]


class Start(msgspec.Struct, frozen=True):
    """Where one call of the workload starts, and where it leads; `call` is the action in words."""

    step: int
    action: Action
    call: str
    files: Files
    before: View
    after: View
    counts: dict[tuple[str, str], int]
    stages: tuple[View, ...] = ()
    # What the call answers without a fault.
    wanted: Any = NotCompared()
    # The steps of a scenario that lead here; where there are none, the workload does.
    lead: tuple[Step, ...] = ()
    # Whether the store says no to it without any fault.
    is_refused: bool = False

    def located(self, configuration: Configuration, condition: str) -> Place:
        """Where along the workload it is."""
        return Place(configuration, self.step, self.call, condition)


class Point(msgspec.Struct, frozen=True):
    """One fault at one operation of one call, or a plan that the user wrote."""

    start: Start
    plan: faults.FaultPlan
    depth: Depth
    series: Series

    def located(self, configuration: Configuration) -> Place:
        """Where along the workload it is."""
        return self.start.located(configuration, str(self.plan))


def parts_of_calls(target: Target, configuration: Configuration, kind: str = "") -> Iterator[Part]:
    """The calls of a workload in one configuration, and the openings round it, some at a time."""
    yield from cut(configuration, len(target.workload()) + _OPENINGS, _CALLS_A_PART, kind)


def needed_calls(target: Target) -> Iterator[Need]:
    """A workload has to make calls."""
    if not target.workload():
        yield Need("calls of the workload", f"the workload of {target.name} makes no call")


class Sweep(Search):
    """Sweeps one target over configurations; tells a `Recorder` what it finds."""

    name = "sweep"

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        depths: tuple[str, ...] | None = None,
        most_points_per_call: int | None = None,
        seed: int = 0,
        plan: faults.FaultPlan | None = None,
        home: Path | None = None,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.depths = depths or target.depths
        self.most_points_per_call = most_points_per_call
        self.plan = plan
        self._reopened: Reopened | None = None
        self._homes = siblings(home or directory / "point")
        self._home = next(self._homes)

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """Which depths, how many points of a call, and the one fault plan where there is one."""
        return {"depths": plan.depths, "most_points_per_call": plan.profile.points_per_call, "plan": plan.by_hand}

    def parts(self) -> Iterator[Part]:
        """A few calls in each configuration."""
        for configuration in self.configurations:
            yield from parts_of_calls(self.target, configuration)

    def search(self, part: Part) -> bool:
        """Try every point of the part's calls."""
        for start in self.starts(part.configuration, part):
            for point in self.sampled(list(self.points_of(start)), self.most_points_per_call):
                if self.enough():
                    return False
                self.try_point(part.configuration, point)
        return True

    def needs(self) -> Iterator[Need]:
        """Calls, and a fault that fired."""
        yield from needed_calls(self.target)
        yield Need("fired", "no fault fired at all")

    # -- what to try ---------------------------------------------------------------------------------------

    def sampled(self, points: list[_Any], most: int | None) -> list[_Any]:
        """All points of one call, or a sample of so many in order; all are counted."""
        self.counts["points"] += len(points)
        if most is None or len(points) <= most:
            return points
        return [points[index] for index in sorted(self.generator.sample(range(len(points)), most))]

    def points_of(self, start: Start) -> Iterator[Point]:
        """Every fault point of one call; where there is a plan, that one."""
        if self.plan is not None:
            first = self.plan.faults[0]
            depth: Depth = "statement" if first.kind in faults.STATEMENT_KINDS else "vfs"
            yield Point(start, self.plan, depth, Series(first.kind, first.role, first.timing, first.effect))
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
                    yield Point(start, plan, depth, series)

    def starts(self, configuration: Configuration, part: Part | None = None) -> Iterator[Start]:
        """Play the workload without a fault; before each call of a part, what a sweep of it needs.

        Raises `TargetError`.
        """
        try:
            yield from self._starts(configuration, part or Part(configuration))
        except (faults.FaultError, TargetError):
            raise
        except Exception as error:
            message = f"{self.target.name} fails without any fault at {configuration}: {error!r}"
            raise TargetError(message) from error

    def _starts(self, configuration: Configuration, part: Part) -> Iterator[Start]:
        home = self._home
        place({}, home)
        with Trial(self.target, configuration, home, {}) as fresh:
            fresh.at_step(0)
            fresh.open()
            require_as_declared(self.target, configuration, fresh.journal_mode(), fresh.live_view())
        place({}, home)
        # The points are tried where this is played, so it has to be over before.
        with Trial(self.target, configuration, home, {}) as dry:
            met = list(self._met(dry, part))
        for step, action, files, before, view, stages, answer in met:
            start = self._start(configuration, step, action, files, before, view, stages)
            yield start if answer is None else self._as_answered(start, answer)

    def _met(self, dry: Trial, part: Part) -> Iterator[_Met]:
        """Play the workload; what is met of the part's calls."""
        if 0 in part:
            yield 0, OPEN, {}, {}, {}, (), None
        dry.at_step(0)
        if "statement" in self.target.depths:
            dry.watch_statements()
        dry.open()
        view: View = {}
        step = 0
        for step, action in enumerate(self.target.workload(), start=1):
            if part.is_past(step):
                return
            before, files = dry.live_view(), dry.crash_copy()
            dry.at_step(step)
            answer, stages = dry.call_by_stages(action)
            if answer.kind == "raised":
                message = f"{self.target.name}: {action} fails without any fault: it {answer}"
                raise TargetError(message) from answer.error
            view = dry.live_view()
            if step in part:
                self._judge_without_fault(dry, step, action, before, answer)
                yield step, action, files, before, view, stages, answer
        left, last = dry.crash_copy(), step + 1
        dry.call(CLOSE, view)
        closed = dry.crash_copy()
        ends = ((last, OPEN, left), (last, CLOSE, left), (last + 1, OPEN, closed))
        for number, (step, action, files) in enumerate(ends, start=last):
            if number in part:
                yield step, action, files, view, view, (), None

    def _judge_without_fault(self, dry: Trial, step: int, action: Action, before: View, answer: Answer) -> None:
        """What is wrong even without a fault is found before any is armed, and told once."""
        self.counts["faultless"] += 1
        try:
            dry.look_after_call(action, before, answer)
            # A copy is opened, too: what a restart makes of the state, and what can be checked only in a copy.
            dry.look_after_crash(dry.crash_copy(), self.reopened_at(dry.oracle.configuration))
        except Violation as violation:
            steps = tuple(Call(one) for one in self.target.workload()[:step])
            self.found(violation, Scenario(self.target.name, dry.oracle.configuration, steps))

    def _start(
        self,
        configuration: Configuration,
        step: int,
        action: Action,
        files: Files,
        before: View,
        after: View,
        stages: tuple[View, ...] = (),
    ) -> Start:
        """Count the operations of the call in a cold session, at each depth."""
        home = self._home
        counts: dict[tuple[str, str], int] = {}
        place(files, home)
        with Trial(self.target, configuration, home, before) as trial:
            trial.at_step(step)
            if action != OPEN:
                trial.open()
            with faults.count_operations(home) as counter:
                answer = trial.call(action, after)
                wanted = answer.value
            counts.update(counter.counts)
            if trial.session is not None and action != OPEN and answer.kind == "done":
                self._require_same_when_cold(trial, action, before, after)
        if "statement" in self.depths:
            place(files, home)
            with Trial(self.target, configuration, home, before) as trial:
                trial.at_step(step)
                trial.watch_statements()
                if action != OPEN:
                    trial.open()
                with trial.statements.count_operations() as counter:
                    trial.call(action, after)
            counts.update(counter.counts)
        return Start(step, action, str(action), files, before, after, counts, stages, wanted)

    def _as_answered(self, start: Start, warm: Answer) -> Start:
        """The start with what its call answers, where a cold session says the same as the `warm` one."""
        if warm.kind != "done":
            return msgspec.structs.replace(start, is_refused=warm.kind == "refused")
        wanted = agreed(warm.value, start.wanted)
        if isinstance(wanted, NotCompared):
            self.note(f"the answer of {start.action.name} is not compared: {wanted.reason}")
        elif wanted is not None:
            self.counts["answers"] += 1
        return msgspec.structs.replace(start, wanted=wanted)

    def judge_answer(self, trial: Trial, start: Start, answer: Answer) -> None:
        """Hold the answer of a call that was made from its start against what it is without a fault."""
        trial.judge_answer(start.action, answer, start.wanted, lambda: self._answer_again(trial, start))

    def _answer_again(self, trial: Trial, start: Start) -> Any:
        home = self.directory / "again"
        place(start.files, home)
        with Trial(self.target, trial.oracle.configuration, home, start.before) as again:
            again.at_step(start.step)
            again.open()
            return again.call(start.action, start.after).value

    def _require_same_when_cold(self, trial: Trial, action: Action, before: View, after: View) -> None:
        try:
            cold = trial.live_view()
        except Exception:  # noqa: BLE001 - a view that fails is for the points to find
            return
        require_same_when_cold(self.target, action, (before, after), cold)

    def start_from(
        self, configuration: Configuration, action: Action, files: Files, view: View, lead: tuple[Step, ...]
    ) -> Start:
        """The start of one call on files that something else than the workload has left; raises `TargetError`."""
        step, home = len(lead), self._home
        place(files, home)
        with Trial(self.target, configuration, home, view) as dry:
            dry.at_step(step)
            if "statement" in self.target.depths:
                dry.watch_statements()
            if action != OPEN:
                dry.open()
            answer, stages = dry.call_by_stages(action)
            if answer.kind == "raised":
                message = f"{self.target.name}: {action} fails without any fault: it {answer}"
                raise TargetError(message) from answer.error
            after = dry.live_view()
        start = self._as_answered(self._start(configuration, step, action, files, view, after, stages), answer)
        return msgspec.structs.replace(start, lead=lead)

    # -- one point -----------------------------------------------------------------------------------------

    def try_point(self, configuration: Configuration, point: Point) -> None:
        """Try one point in a cold session and tell the recorder; a finding is recorded, not raised."""
        fired = surfaced = is_finding = False
        try:
            armed = self._play(configuration, point)
            fired, surfaced = bool(armed.firings), bool(armed.surfaced)
        except Violation as violation:
            fired = surfaced = is_finding = True
            self.counts["findings"] += 1
            if held_open(self._home):
                # A leftover would spoil every later look, so nobody goes there any more.
                self._home = next(self._homes)
                self.counts["leaks"] += 1
            arm = Arm(str(point.plan), point.depth)
            self.found(violation, self.scenario(configuration, point.start, arm))
        self.counts["tried"] += 1
        self.counts["fired"] += fired
        self.counts["surfaced"] += surfaced
        if not fired and self.plan is None:
            reason = f"{point.plan} in {point.start.action} at {configuration} never fired"
            self.vacuous(reason)
        self.recorder.tell(PointTried(point.series, fired, surfaced, point.located(configuration), is_finding))

    def found(self, violation: Violation, scenario: Scenario) -> None:
        """Record a finding by its shortest scenario, if it is the first of its kind."""
        finding = Finding.of(violation, scenario, self.name)
        if self.recorder.repeats_one(finding):
            return
        keys: tuple[Key, ...] = (self.recorder.key_of(finding),)
        short = shown(scenario, violation, self.target, self.directory / "minimise")
        finding = Finding.of(short.violation, short.scenario, self.name, short.note, shows_again=short.again)
        if finding.code != violation.code:
            # It needs no fault, and without one it is another check that fails first.
            if self.recorder.repeats_one(finding):
                return
            keys = (*keys, self.recorder.key_of(finding))
        # A state that breaks a rule breaks it at every later call, too, and all of these shrink to the same scenario.
        self.recorder.found(finding, self.target, DedupKeys(before=keys[:1], after=keys[1:], joins=keys))

    def _play(self, configuration: Configuration, point: Point) -> faults.Armed:
        start = point.start
        place(start.files, self._home)
        with Trial(self.target, configuration, self._home, start.before) as trial:
            trial.at_step(start.step)
            if point.depth == "statement":
                trial.watch_statements()
            if start.action != OPEN:
                trial.open()
            with trial.armed(point.plan, point.depth) as armed:
                answer = trial.call(start.action, start.after, start.stages)
                trial.heard_under(start.action, answer, armed, point.plan, refused=start.is_refused)
                files = trial.crash_copy()
            # SQLite checks the files themselves in the copy, and what the session makes of them at the end.
            trial.look(integrity=False)
            trial.look_after_crash(files, self.reopened_at(configuration))
            self.judge_answer(trial, start, answer)
            trial.heartbeat()
            trial.require_open_errors()
        return armed

    def reopened_at(self, configuration: Configuration) -> Reopened:
        """Who opens the crash copies of this configuration."""
        if self._reopened is None or self._reopened.configuration != configuration:
            self._reopened = Reopened(self.target, configuration, self.directory / "reopened")
        return self._reopened

    def scenario(self, configuration: Configuration, start: Start, condition: Conditional) -> Scenario:
        """One point as a scenario: the calls before, a crash for the cold start, what goes wrong, the call.

        Each step is made at the minute at which the search makes it, and what goes wrong ends with the call, as it does
        there; only a rival is looked at while it is there.
        """
        action, at = start.action, start.step
        ends = msgspec.UNSET if isinstance(condition, Rival) else True
        if start.lead:
            *before, last = start.lead
            if action != OPEN:
                before, last = [*start.lead], Call(action, at, ends)
            elif isinstance(last, CrashAt | Restart):
                last = msgspec.structs.replace(last, at=at, ends=ends)
            return Scenario(self.target.name, configuration, (*before, condition, last, Clear()))
        calls = self.target.workload()
        steps: list[Step] = [Restart(at=0)] if at else []
        steps += [Call(earlier, number) for number, earlier in enumerate(calls[: max(at - 1, 0)], start=1)]
        if action == OPEN:
            ended = [Restart(at=len(calls) + 1)] if at > len(calls) + 1 else []
            steps += [*ended, condition, Restart(crash=True, at=at, ends=ends)]
        else:
            # Only a store that has been opened before can crash, and so start cold.
            last = Restart(at=at, ends=ends) if action == CLOSE else Call(action, at, ends)
            steps += [Restart(crash=True, at=at), condition, last]
        return Scenario(self.target.name, configuration, (*steps, Clear()))
