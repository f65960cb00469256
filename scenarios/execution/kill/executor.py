"""Plays a scenario in processes that are really killed: for findings of ``kill``, their shrinking and their replay.

Each life of a process is one job: it opens the store, makes its calls, and meets the plan from where the scenario arms
it. A plan ends with the life that it killed; one that did not fire is armed again in the next life, from its opening
on. ``crash and restart`` kills a process that is still alive, between two calls. The calls after a death are not made.
After each life the files are checked; after the last one the store is started on them.

A shadow in this process, which is never killed, gives the expected state of each call, as in
`scenarios.execution.executor`.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.execution.kill.protocol import Answered, Job, Timed
from tornpage.scenarios.execution.kill.recovery_check import Expected, RecoveryCheck, told_of
from tornpage.scenarios.execution.kill.supervisor import ExitStatus, Supervisor
from tornpage.scenarios.execution.made_again import MadeAgain
from tornpage.scenarios.execution.reopen import fails_later
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.snapshots import Files, held_open, place, siblings
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import in_words, is_wrong
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario, Step
from tornpage.scenarios.model.target import Configuration, Target, TargetError, View


def kills(scenario: Scenario) -> bool:
    """Whether a scenario arms a plan that kills, and so can't be played in this process."""
    plans = [faults.FaultPlan.parse(step.plan) for step in scenario.steps if isinstance(step, Arm)]
    return any(fault.effect == faults.KILL for plan in plans for fault in plan.faults)


def manner_of(exit_status: ExitStatus) -> str:
    """How a process died, in words."""
    number = exit_status.pending
    where = "between two calls" if number is None else f"in {exit_status.job.calls[number].action}"
    fired = exit_status.fired
    return f"killed {where}" + (f" by {fired.fault}" if fired else "")


@dataclass
class _Life:
    """The calls of one process, and its plan."""

    calls: list[Timed]
    plan: str | None = None
    armed_from: int = 0
    armed_until: int | None = None
    # The first process of a scenario opens the store only when a step needs it.
    opened: bool = True

    def call(self, minute: int, step: Call) -> None:
        self.calls.append(Timed(minute, step.action))
        self.opened = True
        if step.ends is True:
            self.clear()

    def arm(self, plan: str) -> None:
        if self.plan is not None:
            raise TargetError("a scenario arms one plan in the life of one process")
        self.plan, self.armed_from = plan, len(self.calls) if self.opened else 0

    def clear(self) -> None:
        if self.plan is not None and self.armed_until is None:
            self.armed_until = len(self.calls)

    @property
    def idle(self) -> bool:
        """Whether it would only open the store."""
        return len(self.calls) == 1 and self.plan is None

    @property
    def still_armed(self) -> str | None:
        return self.plan if self.armed_until is None else None


@dataclass
class _Shadow:
    """The same store, never killed: the expected result of each call."""

    trial: Trial
    view: View = field(default_factory=dict)
    # The return value of the last call.
    value: object = None
    # Whether it has files that a killed process has left.
    has_lived: bool = False

    def open(self) -> None:
        self.trial.at_step(0)
        try:
            self.trial.open()
        except Exception as error:
            raise TargetError(f"{self.trial.target.name}: opening fails without any fault: {error!r}") from error
        self.view = self.trial.live_view()

    def make(self, call: Timed) -> tuple[str, Expected]:
        """Make a call; return its answer, and the allowed states while it is pending."""
        before = self.view
        if call.action in (OPEN, CLOSE):
            return "done", Expected(before, before)
        self.trial.at_step(call.step)
        answer, stages = self.trial.call_by_stages(call.action)
        if answer.kind == "raised" and self.has_lived:
            raise fails_later(f"with nothing armed, {call.action} fails", answer.error) from answer.error
        if answer.kind == "raised":
            raise TargetError(f"{call.action} fails without any fault: it {answer}") from answer.error
        self.view, self.value = self.trial.live_view(), answer.value
        return answer.kind, Expected(before, self.view, stages)


class KillPlayer:
    """A scenario in progress. `counts` has its totals: calls, armed, fired, kills."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path, supervisor: Supervisor) -> None:
        self.configuration = configuration
        self.counts: Counter[str] = Counter()
        self.lives = 0
        # The call in which the last process was killed, and the states allowed then.
        self._cut_short: tuple[Timed, Expected] | None = None
        self.supervisor = supervisor
        directory = next(one for one in siblings(directory) if not held_open(one))
        self.home = directory / "killed"
        for home in (self.home, directory / "shadow"):
            place({}, home)
        shadow = Trial(target, configuration, directory / "shadow", {})
        if "statement" in target.depths:
            shadow.watch_statements()
        self.shadow = _Shadow(shadow)
        # What the shadow has done by itself since its files were last the store's own.
        self.made = MadeAgain(target, configuration, directory / "made-again", {})
        self.after = RecoveryCheck(target, configuration, self.home)

    def play(self, scenario: Scenario) -> None:
        """Play it to its end. Raises `Violation`, `TargetError`."""
        with self.shadow.trial:
            self.shadow.open()
            self._play(scenario)

    def _play(self, scenario: Scenario) -> None:
        life, step = _Life([Timed(0, OPEN)], opened=False), 0
        death = "not killed"
        for step, one in _timed(scenario.steps):
            self.counts["steps"] += 1
            if isinstance(one, Call):
                life.call(step, one)
            elif isinstance(one, Arm):
                self.counts["armed"] += 1
                life.arm(one.plan)
            elif isinstance(one, Clear):
                life.clear()
            elif not isinstance(one, Restart):
                raise TargetError(f"{one}: a scenario that kills can't have other faults")
            elif not life.opened:
                life.opened = True
            elif one.crash and self._cut_short is not None and life.idle:
                # The process died already in the close of a restart: this is its start.
                life = _Life([Timed(step, OPEN)])
            else:
                death, left = self._live(life, in_order=step if not one.crash else None)
                life = _Life([Timed(step, OPEN)], left)
        if not life.idle:
            death, _ = self._live(life, in_order=None)
        with _said(death):
            if self._cut_short is None:
                self.after.start_again(self.shadow.view, step)
            else:
                call, expected = self._cut_short
                self.after.start_again(self.shadow.view, call.step, self.after.finished(call.action, expected))

    def _live(self, life: _Life, in_order: int | None) -> tuple[str, str | None]:
        """One life, closed cleanly at that step or killed; return how it ended, and the plan that is left."""
        calls = (*life.calls, *([] if in_order is None else [Timed(in_order, CLOSE)]))
        exit_status = self.supervisor.run(
            Job(
                self.configuration, str(self.home), calls, life.plan, life.armed_from, life.armed_until,
                dies_at_the_end=in_order is None,
            )
        )  # fmt: skip
        self.counts["calls"] += len(exit_status.answers)
        self.counts["kills"] += exit_status.killed
        self.counts["fired"] += exit_status.fired is not None
        death = manner_of(exit_status)
        exit_status.require_no_failure(restarted=self.lives > 0)
        self.lives += 1
        with _said(death):
            self._follow(exit_status)
        return death, None if exit_status.fired else life.still_armed

    def _follow(self, exit_status: ExitStatus) -> None:
        """Make the same calls on the shadow, and compare the files with it."""
        expected = Expected(self.shadow.view, self.shadow.view)
        for answer in exit_status.answers:
            call = exit_status.job.calls[answer.call]
            before_call = self.shadow.trial.crash_copy() if answer.value is not None else None
            wanted, expected = self.shadow.make(call)
            if answer.kind != wanted:
                raise Violation(
                    "acknowledged-is-durable",
                    f"{call.action} was {answer.kind}; in a process that is not killed it is {wanted}",
                )
            if before_call is not None and answer.compared:
                self._judge_answer(call, answer, before_call)
            if call.action not in (OPEN, CLOSE):
                self.made.add(call.action, self.shadow.trial.environment.now_ms)
            expected = Expected(expected.after, expected.after)
        cut_off = self._cut_short = None
        if exit_status.pending is not None:
            cut_off = self.shadow.trial.crash_copy()
            call = exit_status.job.calls[exit_status.pending]
            _, expected = self.shadow.make(call)
            self._cut_short = call, expected
        last = exit_status.job.calls[min(len(exit_status.answers), len(exit_status.job.calls) - 1)]
        disk = self.after.disk(expected, last.step)
        if cut_off is not None and disk != expected.after:
            half_way = disk != expected.before
            left = Trial(self.shadow.trial.target, self.configuration, self.home, {})
            with left:
                files = left.crash_copy() if half_way else cut_off
            self.shadow.has_lived = self.shadow.has_lived or half_way
            if half_way:
                self.made.begin(files)
            self.shadow.trial.close()
            place(files, self.shadow.trial.directory)
            self.shadow.trial.open()
            self.shadow.view = disk

    def _judge_answer(self, call: Timed, answer: Answered, files: Files) -> None:
        """Compare the process's answer with the shadow's, if a newly opened shadow gives the same one."""
        target, home = self.shadow.trial.target, self.home.with_name("again")

        def again() -> object:
            place(files, home)
            with Trial(target, self.configuration, home, {}) as cold:
                cold.at_step(call.step)
                return cold.open().call(call.action, {}).value

        now_ms = self.shadow.trial.environment.now_ms
        if is_wrong(answer.value, self.shadow.value, again) and not self.made.explains(
            call.action, now_ms, answer.value, self.shadow.value
        ):
            message = f"{call.action} returned {in_words(answer.value)}; without a kill, {in_words(self.shadow.value)}"
            raise Violation("wrong-answer", message)


def _timed(steps: tuple[Step, ...]) -> Iterator[tuple[int, Step]]:
    """Each step with its minute: its index in the scenario, unless it names one."""
    for number, step in enumerate(steps, start=1):
        at = step.at if isinstance(step, Call | Restart) else msgspec.UNSET
        yield (at if isinstance(at, int) else number), step


@contextlib.contextmanager
def _said(death: str) -> Iterator[None]:
    """Add to a violation how the process died."""
    try:
        yield
    except Violation as violation:
        forget_frames(violation)
        raise told_of(violation, death) from violation.__cause__


def play_killed(
    scenario: Scenario, target: Target, directory: Path, supervisor: Supervisor
) -> tuple[Violation | None, Counter[str]]:
    """Play a whole scenario; return its violation, if any, and its counts."""
    executor = KillPlayer(target, scenario.configuration, directory, supervisor)
    try:
        executor.play(scenario)
    except Violation as violation:
        return violation, executor.counts
    return None, executor.counts
