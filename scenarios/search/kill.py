"""Real kills: the target runs in a child process, SIGKILL ends it inside its Nth operation, and it is started again.

Method. The workload is played once per configuration without a fault (by the sweep): that gives the files before each
call, the expected state after it, and the number of its operations of each kind. From these come the kill points:
before, after, and for writes half-way through each operation, and around BEGIN, each statement, COMMIT and ROLLBACK if
the statement depth reaches the target. There are two kinds of kill:

- *cold*: a child starts on the files before one call, makes that call, and dies in it;
- *warm*: a child makes the whole workload from an empty directory, in one session, and dies somewhere in it.

The seed draws the given number of kills: next is always the kind of operation, file and timing that was hit least. The
job is on disk before the child begins it, and each answer before the child continues
(`scenarios.execution.kill.protocol`); waitpid reports how the child died. The checks after it are in
`scenarios.execution.kill.recovery_check`.

Not covered: power loss (``crash`` does that), and a kill while another process uses the store.
"""

import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.finding.shrink import NO_FAULT, Shown, minimise, without_faults
from tornpage.scenarios.execution.kill.executor import kills, manner_of, play_killed
from tornpage.scenarios.execution.kill.protocol import Job
from tornpage.scenarios.execution.kill.recovery_check import RecoveryCheck, told_of
from tornpage.scenarios.execution.kill.supervisor import ExitStatus, Supervisor, journal_below
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.model.events import Finding, SearchEnded
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Call, Restart, Scenario
from tornpage.scenarios.model.target import Configuration, Target
from tornpage.scenarios.model.work import Need, Part, cut
from tornpage.scenarios.search.kill_points import KillPoint, KillPoints
from tornpage.scenarios.search.points import Met, Point, PointSearch
from tornpage.scenarios.search.recorder import DedupKeys, Key, Recorder

# Each part has a process that its children are forked from, which takes half a second to start.
_KILLS_A_PART: Final = 50

_NOT_MADE: Final = (
    "it has not made that operation, which this process has; what a module keeps from one store to the next, such as a "
    "cache by function, explains it: let `make` begin with an empty one"
)


class Kill(PointSearch):
    """Kills one target's processes over configurations; reports findings to a `Recorder`."""

    name = "kill"
    is_random = True
    goes_by_call = False

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        kills: int = 20,
        seed: int = 0,
        report: Path | None = None,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.kills = self.expected = kills
        self.report = report
        # State of the current part.
        self._supervisor: Supervisor | None = None
        self._kill_points: KillPoints | None = None
        self._killed = False

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """The number of processes, and the directory of their jobs."""
        return {"kills": plan.profile.kills, "report": plan.report}

    def parts(self) -> Iterator[Part]:
        """Some of the kills of each configuration."""
        for configuration, share in self._shares().items():
            if share:
                yield from cut(configuration, share, _KILLS_A_PART)

    def _shares(self) -> dict[Configuration, int]:
        """The number of kills of each configuration: equal shares, the rest goes to the first ones."""
        each, over = divmod(self.kills, len(self.configurations))
        return {one: each + (number < over) for number, one in enumerate(self.configurations)}

    def search(self, part: Part) -> bool:
        """Run the kills of the part."""
        with (
            journal_below(self.report, self.directory) as journal,
            Supervisor(self.target.name, journal) as self._supervisor,
        ):
            return super().search(part)

    def needs(self) -> Iterator[Need]:
        """Calls, and a process that was killed."""
        yield from super().needs()
        yield Need("kills", "no process was killed")

    def ended(self, *, complete: bool) -> SearchEnded:
        """How it ended, and how many kinds of operations were hit."""
        self.total.counts["kinds"] = len(self.total.seen)
        return super().ended(complete=complete)

    def points(self, part: Part) -> Iterator[KillPoint]:
        """All kills of a configuration are drawn; the part has some of them."""
        configuration = part.configuration
        starts = list(self.starts(configuration))
        self._kill_points = KillPoints(self.target, starts, configuration, self.directory / "warm", self.home)
        self.counts["points"] += 0 if part.first else self._kill_points.number
        draw = random.Random(f"{self.seed} {self.name} {configuration}")  # noqa: S311 - the same seed, the same kills
        drawn = self._kill_points.draw(self._shares()[configuration], draw)
        yield from (kill_point for number, kill_point in enumerate(drawn) if number in part)

    # -- one kill ---------------------------------------------------------------------------------------------

    def play(self, configuration: Configuration, point: Point) -> ExitStatus:
        """Run a process until it is killed, start again, and judge; raises `Violation`."""
        assert isinstance(point, KillPoint)  # noqa: S101 - `points` gives no others
        place(point.files, self.home)
        exit_status = self._strike(configuration, point)
        try:
            self._judge(configuration, point, exit_status)
        except Violation as violation:
            raise told_of(violation, manner_of(exit_status)) from violation.__cause__
        return exit_status

    def _strike(self, configuration: Configuration, point: KillPoint) -> ExitStatus:
        assert self._supervisor is not None  # noqa: S101 - of the part
        exit_status = self._supervisor.run(self._job(configuration, point))
        self._killed = exit_status.fired is not None
        if self._killed:
            self.counts["kills"] += 1
            self.counts["warm"] += point.is_warm
            self.seen[" ".join(point.kind)] += 1
        else:
            how = "was killed by another process" if exit_status.killed else f"lived on: {_NOT_MADE}"
            self.vacuous(f"{point.condition} in {point.call} at {configuration}: the process {how}")
        return exit_status

    def came_to(self, condition: Any) -> Met:
        """Whether the process was killed."""
        return Met(self._killed, surfaced=False, is_finding=False, condition=condition)

    def failed_at(self, point: Point) -> Met:
        """Whether the process was killed before a check failed."""
        del point
        return Met(self._killed, surfaced=False, is_finding=True)

    def took(self, configuration: Configuration, point: Point, met: Met) -> bool:
        """Count a point; kills are counted where they happen."""
        del configuration, point, met
        self.counts["tried"] += 1
        return True

    def _job(self, configuration: Configuration, point: KillPoint) -> Job:
        assert self._kill_points is not None  # noqa: S101 - of the part
        calls = self._kill_points.calls_of(point)
        # A cold session is opened before the plan is armed, unless it is the opening that is cut short.
        cold = not point.is_warm and point.start.action != OPEN
        return Job(configuration, str(self.home), calls, str(point.fault), armed_from=1 if cold else 0)

    def _judge(self, configuration: Configuration, point: KillPoint, exit_status: ExitStatus) -> None:
        assert self._kill_points is not None  # noqa: S101 - of the part
        exit_status.require_no_failure(restarted=bool(point.files))
        for answer in exit_status.answers:
            call = exit_status.job.calls[answer.call]
            wanted = self._kill_points.answers[call.step] if call.action not in (OPEN, CLOSE) else "done"
            if answer.kind != wanted:
                message = f"{call.action} was {answer.kind}; in a process that is not killed it is {wanted}"
                raise Violation("acknowledged-is-durable", message)
            if answer.kind == "done" and answer.compared and call.action not in (OPEN, CLOSE):
                self._kill_points.judge_answer(point, call, answer.value)
        after = RecoveryCheck(self.target, configuration, self.home)
        reached = len(exit_status.answers) if exit_status.pending is None else exit_status.pending
        call = exit_status.job.calls[min(reached, len(exit_status.job.calls) - 1)]
        expected = self._kill_points.expected(point, exit_status)
        after.start_again(after.disk(expected, call.step), call.step, after.finished(call.action, expected))

    # -- findings ------------------------------------------------------------------------------------------

    def found(self, violation: Violation, scenario: Scenario, search: str = "") -> None:
        """Record a finding by its shortest scenario, if it is the first of its kind."""
        supervisor = self._supervisor
        if supervisor is None or not kills(scenario):
            # A failure without any fault happens in this process, too; it hides nothing that only a kill shows.
            super().found(violation, scenario, search or "sweep")
            return
        finding = Finding.of(violation, scenario, self.name)
        if self.recorder.repeats_one(finding):
            return
        keys: tuple[Key, ...] = (self.recorder.key_of(finding),)
        short = self._shown(violation, scenario, supervisor)
        finding = Finding.of(short.violation, short.scenario, self.name, short.note, shows_again=short.again)
        # A scenario begins before the kill, so it may show another side of the same defect.
        if finding.code != violation.code:
            if self.recorder.repeats_one(finding):
                return
            keys = (*keys, self.recorder.key_of(finding))
        self.recorder.found(finding, self.target, DedupKeys(before=keys[:1], after=keys[1:], joins=keys))

    def _shown(self, violation: Violation, scenario: Scenario, supervisor: Supervisor) -> Shown:
        """The shortest scenario that shows a violation: one that needs no kill, else one in which the plan has killed.

        The cold start also kills a process: if that kill shows the violation already, a scenario without it may be
        better.
        """
        home, plain, is_over = self.directory / "minimise", without_faults(scenario), self.recorder.shrinking()
        if (found := play(plain, self.target, home)[0]) is not None:
            return Shown(*minimise(plain, found, self.target, home, is_over=is_over), note=NO_FAULT)
        warm = [step for step in scenario.steps[:-1] if not (isinstance(step, Restart) and step.crash)]
        warmer = msgspec.structs.replace(scenario, steps=(*warm, scenario.steps[-1]))
        played = partial(_play_if_it_kills, supervisor=supervisor)
        for one in (scenario, warmer):
            again, _ = played(one, self.target, home)
            if again is not None:
                return Shown(*minimise(one, again, self.target, home, played, is_over=is_over))
        return Shown(scenario, violation, again=False)

    def scenario(self, configuration: Configuration, point: Point) -> Scenario:
        """The same kill as a scenario, and the restart after it."""
        assert isinstance(point, KillPoint)  # noqa: S101 - `points` gives no others
        restart = Restart(crash=True)
        if point.is_warm:
            calls = [Call(action) for action in self.target.workload()]
            return Scenario(self.target.name, configuration, (point.step, *calls, Restart(), restart))
        swept = super().scenario(configuration, point)
        return msgspec.structs.replace(swept, steps=(*swept.steps[:-1], restart))


def _play_if_it_kills(
    scenario: Scenario, target: Target, directory: Path, supervisor: Supervisor
) -> tuple[Violation | None, Counter[str]]:
    """Play a scenario that has a plan and ends with a restart: a shorter one without them is another scenario.

    Only a violation after the plan has killed counts.
    """
    if not kills(scenario) or scenario.steps[-1] != Restart(crash=True):
        return None, Counter()
    violation, counts = play_killed(scenario, target, directory, supervisor)
    return (violation if counts["fired"] else None), counts
