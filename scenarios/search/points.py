"""The one point loop of sweep, limits, contention, system calls and kills: points → inject → judge.

Method. A point is one fault or condition in one call of the workload: a step of a scenario such as an armed fault, a
limit or a rival. Each point starts from the copy of the files before its call, in a cold session: place the files,
open, inject, call; then the oracle judges the copy that a crash would have left, disk, memory, and the next call. So
the work grows linearly with the calls. A finding is recorded, not raised, and the loop continues.

A subclass lists the points (`points_of`), and may add checks while the injection is in force (`judge_during`) or counts
(`took`).

Not covered: two faults in one call (``fuzz`` does that), and power loss (``crash``).
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.finding.shrink import shown
from tornpage.scenarios.execution.injection import OPENERS, Condition
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.snapshots import held_open, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.covering import Covering, Operation, OperationsTried, Variant
from tornpage.scenarios.model.events import Finding, Place, PointTried, SearchEnded, Series
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import (
    Arm,
    Call,
    Clear,
    Conditional,
    CrashAt,
    OtherWriter,
    Restart,
    Rival,
    Scenario,
    Soak,
    Step,
    Syscall,
    UsualUmask,
    WithTheLogWrittenBack,
)
from tornpage.scenarios.model.target import Configuration, Target, TargetError, completed
from tornpage.scenarios.model.work import Done, Part
from tornpage.scenarios.search.recorder import DedupKeys, Key, Recorder
from tornpage.scenarios.search.workload import Start, WorkloadSearch

# The points of each call in the first round of a run with a time limit, before any call gets more.
_FIRST_POINTS: Final = 3
# So many points of one kind are shrunk until one of them shows the violation again.
_TRIES: Final = 4
_REACHED: Final = "reached "
# An ordinal without an end, in the text of a fault.
_FOR_GOOD: Final = re.compile(r"\.\.[/=]")


class Point(msgspec.Struct, frozen=True):
    """One fault or condition in one call: `step` is its step, `series` the row of the table that counts it.

    `operation` is the one that fails, by its kind and role and by its ordinal among these; None if it is not one.
    """

    start: Start
    step: Conditional
    series: Series
    operation: Operation | None = None

    def located(self, configuration: Configuration) -> Place:
        """The place in the workload."""
        return self.start.located(configuration, self.condition)

    @property
    def condition(self) -> str:
        """The fault or condition in words."""
        if isinstance(self.step, Arm):
            return self.step.plan
        return self.step.fault if isinstance(self.step, Syscall) else str(self.step)

    @property
    def is_sticky(self) -> bool:
        """Whether a fault is sticky."""
        # No other part of a plan can hold these characters, and parsing takes a hundred times as long.
        return isinstance(self.step, Arm | Syscall) and _FOR_GOOD.search(self.condition) is not None


def _variant(point: Point) -> Variant:
    """A point in the terms of the covering design."""
    series = point.series
    kind, ordinal = point.operation or ((series.kind, series.role), 0)
    return Variant(kind, ordinal, (series.timing, series.effect), point.is_sticky)


class Met(NamedTuple):
    """The result of a point: whether it fired, an error reached the caller and every check passed, or a check failed.

    `condition` is the injection, None if a check failed.
    """

    fired: bool
    surfaced: bool
    is_finding: bool
    condition: Any = None


class PointSearch(WorkloadSearch):
    """Tries points, at up to `most_points_per_call` of each call (None: all); reports to a `Recorder`.

    With `every_operation` each operation of each call fails at least once, however many that is.
    """

    # Whether its parts are calls of the workload, each of which should run within the time limit.
    goes_by_call = True
    # Whether it first checks a store that does nothing: the bound of its log, and that others can write.
    looks_when_idle = False

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
        home: Path | None = None,
    ) -> None:
        super().__init__(
            target, recorder, directory, configurations=configurations, depths=depths, seed=seed, home=home
        )
        self.most_points_per_call = most_points_per_call
        self.every_operation = every_operation
        self._most: int | None = None
        self._covering = Covering()
        # Of the current part, and of all of them.
        self._operations = OperationsTried()
        self._all_operations = OperationsTried()
        # By key, the first finding whose scenario does not show it again.
        self._not_shown: dict[Key, tuple[Finding, tuple[Key, ...]]] = {}

    # -- the loop ------------------------------------------------------------------------------------------

    def search(self, part: Part) -> bool:
        """Try every point of a part; whether all were tried."""
        points = self.points(part)
        # The calls are judged without a fault first, before the first point: they show most of what needs none.
        first = [*islice(points, 1)]
        if not part.first and not self.enough():
            self._judge_idle(part)
        for point in chain(first, points):
            if self.enough():
                return False
            self.try_point(part.configuration, point)
        return True

    def own_parts(self) -> Iterator[Part]:
        """All parts; with a time limit, first each of them with a few points of each call."""
        if self.is_timed and self.goes_by_call:
            yield from (msgspec.structs.replace(part, most=_FIRST_POINTS) for part in super().own_parts())
        yield from super().own_parts()

    def do(self, part: Part) -> Done:
        """Run one part."""
        self._most = part.most
        self._covering, self._operations = Covering(), OperationsTried()
        self._not_shown.clear()
        done = super().do(part)
        for finding, keys in self._not_shown.values():
            # No finding of its kind could be reproduced.
            self.recorder.found(finding, self.target, DedupKeys(before=keys))
        return done

    def more(self) -> Any:
        """The operations that a part has made fail."""
        return self._operations

    def take(self, part: Part, done: Done) -> None:
        """Add the result of a part; an operation that failed in two parts counts once."""
        super().take(part, done)
        if isinstance(done.more, OperationsTried):
            self._all_operations.add(done.more)

    def ended(self, *, complete: bool) -> SearchEnded:
        """How it ended, and how many operations have failed of how many."""
        if there := sum(self._all_operations.there.values()):
            self.total.counts.update(operations=there, operations_failed=len(self._all_operations.failed))
        return super().ended(complete=complete)

    def _judge_idle(self, part: Part) -> None:
        """Check the bound of the log, or that others can write, without any fault, once for each configuration."""
        # With a time limit there is a first round of parts, and a second one.
        is_first_round = (part.most is not None) == self.is_timed
        if not self.looks_when_idle or not is_first_round:
            return
        for code, steps in self._idle_checks(part.configuration):
            scenario = Scenario(self.target.name, part.configuration, steps)
            try:
                violation, _ = play(scenario, self.target, self.directory / "idle")
            except TargetError as error:
                # Calls that are made again may fail.
                if code != "still-usable-after-the-fault":
                    self.note(f"not judged: {code} at {part.configuration}: {error}")
                continue
            if violation is not None and violation.code == code:
                self.counts["findings"] += 1
                self.found(violation, scenario)

    def _idle_checks(self, configuration: Configuration) -> Iterator[tuple[str, tuple[Step, ...]]]:
        """The checks of a store that does nothing, and the steps of each."""
        calls = [*map(Call, self.target.workload())]
        if configuration.journal_mode == "wal":
            yield "log-stays-small", (*calls, Soak())
            yield "files-are-private", (UsualUmask(),)
            both_ways = [(WithTheLogWrittenBack(call.action), call) for call in calls]
            yield "checkpoints-change-nothing", tuple(step for both in both_ways for step in both)
        elif configuration.journal_mode != "file" and completed(self.target).callers != ():
            between = [step for call in calls for step in (OtherWriter(), call)]
            yield "lets-others-write", (*between, OtherWriter(is_last=True))
        # Most of these are refused where they were made before.
        beat = Call(self.target.heartbeat())
        yield "still-usable-after-the-fault", (*calls, beat, beat, *calls, beat)

    def points(self, part: Part) -> Iterator[Point]:
        """The points of a part's calls, sampled if one call has too many."""
        for start in self.starts(part.configuration, part):
            points = list(self.points_of(part.configuration, start))
            # A call without any is reached as far as it can be.
            self.seen[f"{_REACHED}{start.action}"] += not points
            self._operations.there_are(start.place_in(part.configuration), {one.operation for one in points})
            yield from self.sampled(points)

    def points_of(self, configuration: Configuration, start: Start) -> Iterator[Point]:
        """All points of one call."""
        raise NotImplementedError

    def sampled(self, points: list[Any]) -> list[Any]:
        """All points of one call, or a sample of so many in order; all are counted."""
        self.count_points(points)
        most = self.at_most
        if most is None or len(points) <= most:
            return points
        if self.every_operation and self._most is None:
            chosen = self._covering.choose([_variant(one) for one in points], most, self.generator)
        else:
            chosen = sorted(self.generator.sample(range(len(points)), most))
        self.leave_out(len(points) - len(chosen))
        return [points[index] for index in chosen]

    def leave_out(self, many: int) -> None:
        """Record that so many points are not tried; not in a first round, since the second one tries them."""
        if self._most is None:
            self.left_out(many)

    @property
    def at_most(self) -> int | None:
        """The most points of one call in the current part; None: all."""
        return self._most if self._most is not None else self.most_points_per_call

    def count_points(self, points: list[Any]) -> None:
        """Count the points of one call, once, even if a few of them are tried first."""
        self.counts["points"] += len(points) if self._most is None else 0

    # -- coverage -------------------------------------------------------------------------------------------

    def cut_short(self) -> Iterator[str]:
        """Calls of which no point was tried before the time limit."""
        if nothing := list(super().cut_short()):
            yield from nothing
            return
        reached = {key.removeprefix(_REACHED) for key in self.total.seen if key.startswith(_REACHED)}
        names = dict.fromkeys(str(action) for action in self.target.workload())
        missed = [name for name in names if name not in reached]
        if self.goes_by_call and self.is_out_of_time and reached and missed:
            more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
            yield f"the time was up before any point of {', '.join(missed[:3])}{more}: give it more (--max-time)"

    def judge(self, *, complete: bool) -> None:
        """Try more points of kinds that were never met, before reporting them."""
        if complete:
            for kind in self.kinds_never_met():
                self._try_further(kind)
        super().judge(complete=complete)

    def kinds_never_met(self) -> list[str]:
        """Kinds of points that were tried, or possible, and never met; by the `kind` of their series."""
        return []

    def further_points(self, configuration: Configuration, kind: str) -> Iterator[Point]:
        """Every point of that kind in one configuration."""
        for start in self.starts(configuration):
            yield from (one for one in self.points_of(configuration, start) if one.series.kind == kind)

    def _try_further(self, kind: str) -> None:
        """Try every point of a kind until one is met: a sample may have missed it."""
        self.counts, self.seen, tried = Counter(), Counter(), 0
        with faults.install() as shim, shim.deterministic(), self.company():
            for configuration in self.configurations:
                for point in self.further_points(configuration, kind):
                    if self.recorder.enough():
                        return
                    tried += 1
                    self.try_point(configuration, point)
                    if self.is_met(kind):
                        break
                if self.is_met(kind):
                    break
        if not self.is_met(kind):
            self.note(f"{self.never_met(kind)}, at none of all {tried:,} points")
        self.total.counts.update(self.counts)
        self.total.seen.update(self.seen)

    def is_met(self, kind: str) -> bool:
        """Whether a point of that kind was met in the last try."""
        raise NotImplementedError

    def never_met(self, kind: str) -> str:
        """The note on a kind that can't be met here."""
        raise NotImplementedError

    def try_point(self, configuration: Configuration, point: Point) -> None:
        """Try one point and report it to the recorder; a finding is recorded, not raised."""
        played: Any = None
        violation: Violation | None = None
        try:
            played = self.play(configuration, point)
        except Violation as raised:
            violation = raised
        # Outside the handler: an exception that a store's thread hands over would get this one as its context.
        if violation is not None:
            self.counts["findings"] += 1
            self._leave_what_is_held_open()
            self.found(violation, self.scenario(configuration, point))
            met = self.failed_at(point)
        else:
            met = self.came_to(played)
        self.report_point(configuration, point, met)

    def report_point(self, configuration: Configuration, point: Point, met: Met) -> None:
        """Count the result of a point, and report it to the recorder."""
        self.seen[f"{_REACHED}{point.start.action}"] += 1
        if met.fired and point.operation is not None:
            self._operations.failed.add((point.start.place_in(configuration), point.operation))
        if self.took(configuration, point, met):
            place = point.located(configuration)
            self.recorder.tell(PointTried(point.series, met.fired, met.surfaced, place, met.is_finding))

    def came_to(self, condition: Any) -> Met:
        """The result of an injection after which every check passed."""
        return Met(bool(condition.fired), bool(condition.surfaced), is_finding=False, condition=condition)

    def failed_at(self, point: Point) -> Met:
        """The result of a point at which a check failed; an error that reached the caller there is not counted."""
        del point
        return Met(fired=True, surfaced=False, is_finding=True)

    def took(self, configuration: Configuration, point: Point, met: Met) -> bool:
        """Count a point; return False if it proves nothing and does not count."""
        del configuration, point
        self.counts["tried"] += 1
        self.counts["fired"] += met.fired
        self.counts["surfaced"] += met.surfaced
        return True

    def _leave_what_is_held_open(self) -> None:
        """A leftover would affect every later check, so this directory is not used again."""
        if held_open(self.home):
            self.home = next(self._homes)
            self.counts["leaks"] += 1

    # -- inject, judge -------------------------------------------------------------------------------------

    def play(self, configuration: Configuration, point: Point) -> Any:
        """Make the call with the injection in force and judge the state it left; raises `Violation`.

        Returns the injection's counts, a `Condition`; in another process, those of the process.
        """
        start = point.start
        with self.begun(configuration, start, watched=self.is_watched(point)) as trial:
            with OPENERS[type(point.step)](trial, point.step) as condition:
                answer = trial.call(start.action, start.after, start.stages)
                trial.hidden_errors.heard(start.action, answer, condition, point.condition, refused=start.is_refused)
                files = trial.crash_copy()
                self.judge_during(trial, point, condition, answer)
            # SQLite checks the copy's files, and at the end the session's own view of them.
            trial.look(integrity=False)
            trial.look_after_crash(files, self.reopened_at(configuration))
            trial.judge_answer(start.action, answer, start.wanted, lambda: self.answer_again(configuration, start))
            self.judge_reads(trial, point, answer)
            trial.heartbeat(files)
            trial.hidden_errors.require_none()
            self.judge_later(trial, point, answer)
        return condition

    def is_watched(self, point: Point) -> bool:
        """Whether a point is above the VFS: at the statement depth, or on a connection."""
        del point
        return False

    @contextlib.contextmanager
    def begun(self, configuration: Configuration, start: Start, *, watched: bool) -> Iterator[Trial]:
        """A cold session just before a call; its connections are `watched` for the statement depth and for limits."""
        place(start.files, self.home)
        with Trial(self.target, configuration, self.home, start.before) as trial:
            trial.at_step(start.step)
            if watched:
                trial.watch_statements()
            if start.action != OPEN:
                trial.open()
            yield trial

    def judge_during(self, trial: Trial, point: Point, condition: Condition, answer: Answer) -> None:
        """Judge the call while the injection is still in force; raises `Violation`."""

    def judge_reads(self, trial: Trial, point: Point, answer: Answer) -> None:
        """Judge what is read after the call, with nothing in force; raises `Violation`."""

    def judge_later(self, trial: Trial, point: Point, answer: Answer) -> None:
        """Judge what follows the call and the small change, with nothing in force; raises `Violation`."""

    # -- findings ------------------------------------------------------------------------------------------

    def found(self, violation: Violation, scenario: Scenario, search: str = "") -> None:
        """Record a finding of this search, or of another, by its shortest scenario, if it is the first of its kind."""
        finding = Finding.of(violation, scenario, search or self.name)
        if self.recorder.repeats_one(finding):
            return
        keys: tuple[Key, ...] = (self.recorder.key_of(finding),)
        is_over = self.recorder.shrinking()
        short = shown(scenario, violation, self.target, self.directory / "minimise", is_over=is_over)
        finding = Finding.of(short.violation, short.scenario, search or self.name, short.note, shows_again=short.again)
        if not short.again:
            # Another point of its kind may be reproducible; the limit is for targets that never behave the same twice.
            self._not_shown.setdefault(keys[0], (finding, keys))
            if self.recorder.repeats[keys[0]] < _TRIES:
                self.recorder.forget(keys[0])
            return
        self._not_shown.pop(keys[0], None)
        if finding.code != violation.code:
            # It needs no fault, and without one it is another check that fails first.
            if self.recorder.repeats_one(finding):
                return
            keys = (*keys, self.recorder.key_of(finding))
        # A state that breaks a rule breaks it at every later call, too, and all of these shrink to the same scenario.
        self.recorder.found(finding, self.target, DedupKeys(before=keys[:1], after=keys[1:], joins=keys))

    def scenario(self, configuration: Configuration, point: Point) -> Scenario:
        """One point as a scenario: the calls before, a crash for the cold start, the fault or condition, the call.

        Each step is made at the same minute as in the search, and the fault ends with the call, as it does there; only
        a rival still holds its lock during the checks.
        """
        start, condition = point.start, point.step
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
