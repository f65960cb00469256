"""Real death: the target runs in a child process, SIGKILL ends it inside its Nth operation, and it is started again.

Method. The workload is played once per configuration without a fault (by the sweep): that gives the files before each
call, where the call leads, and how many operations of each kind it makes. From these come the kill points: before,
after, and for writes half-way through each operation, and round BEGIN, each statement, COMMIT and ROLLBACK where the
target can be reached there. Two kinds of death:

- *cold*: a child starts on the files before one call, makes that call, and dies in it;
- *warm*: a child makes the whole workload from an empty directory, in one session, and dies somewhere in it.

So many kills are drawn, by the seed: always next the kind of operation, file and timing that was hit least. The errand
is on disk before the child begins it, each answer before the child goes on (`scenarios.errand`); how the child died is
what waitpid says. `scenarios.after_death` says what must be true then.

Not covered: power loss (``crash`` does that), and death while another process uses the store.
"""

import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

import faults
from scenarios.after_death import AfterDeath, told_of
from scenarios.checks import Violation
from scenarios.errand import Errand
from scenarios.events import Finding, PointTried, SearchEnded, Series
from scenarios.files import held_open, place, siblings
from scenarios.kill_player import kills, manner_of, play_killed
from scenarios.kill_points import Blow, KillPoints
from scenarios.minimise import minimise
from scenarios.nursery import Fate, Nursery, journal_below
from scenarios.parts import Need, Part, cut
from scenarios.profiles import Plan
from scenarios.recorder import Key, Kin, Recorder
from scenarios.searching import Search
from scenarios.story import Arm, Call, Restart, Story
from scenarios.sweep import Sweep, needed_calls
from scenarios.target import Configuration, Target
from scenarios.trial import CLOSE, OPEN

# Each part has a process that its children are forked from, which takes half a second to begin.
_KILLS_A_PART: Final = 50


class Kill(Search):
    """Kills one target's processes over configurations; tells a `Recorder` what it finds."""

    name = "kill"

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
        self._sweep = Sweep(target, recorder, directory / "plain", configurations=self.configurations)
        self._homes = siblings(directory / "victim")
        self._home = next(self._homes)

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many processes, and where their errands are kept."""
        return {"kills": plan.profile.kills, "report": plan.report}

    def parts(self) -> Iterator[Part]:
        """Some of the kills of each configuration."""
        for configuration, share in self._shares().items():
            if share:
                yield from cut(configuration, share, _KILLS_A_PART)

    def _shares(self) -> dict[Configuration, int]:
        """How many kills each configuration has: equal shares, the first ones have what is left over."""
        each, over = divmod(self.kills, len(self.configurations))
        return {one: each + (number < over) for number, one in enumerate(self.configurations)}

    def search(self, part: Part) -> bool:
        """Kill as often as the part says."""
        with (
            journal_below(self.report, self.directory) as journal,
            Nursery(self.target.name, journal) as nursery,
        ):
            return self._kill(nursery, part)

    def needs(self) -> Iterator[Need]:
        """Calls, and a process that was killed."""
        yield from needed_calls(self.target)
        yield Need("kills", "no process was killed at all")

    def ended(self, *, complete: bool) -> SearchEnded:
        """How it ended, and how many kinds of operations were hit."""
        self.total.counts["kinds"] = len(self.total.seen)
        return super().ended(complete=complete)

    def _kill(self, nursery: Nursery, part: Part) -> bool:
        """Whether all of it was done. All kills of a configuration are drawn, and those of the part are done."""
        configuration = part.configuration
        points = KillPoints(self.target, self._sweep, configuration, self.directory / "warm")
        self.counts["points"] += 0 if part.first else points.number
        draw = random.Random(f"{self.seed} {self.name} {configuration}")  # noqa: S311 - the same seed, the same kills
        for number, blow in enumerate(points.draw(self._shares()[configuration], draw)):
            if number in part:
                if self.enough():
                    return False
                self._strike(nursery, configuration, points, blow)
        return True

    # -- one death -----------------------------------------------------------------------------------------

    def _strike(self, nursery: Nursery, configuration: Configuration, points: KillPoints, blow: Blow) -> None:
        place({} if blow.start is None else blow.start.files, self._home)
        fate = nursery.run(self._errand(configuration, points, blow))
        self.counts["tried"] += 1
        killed = fate.struck is not None
        if killed:
            self.counts["kills"] += 1
            self.counts["warm"] += blow.start is None
            self.seen[" ".join(blow.kind)] += 1
        else:
            how = "was killed by somebody else" if fate.killed else "lived on"
            where = "the whole workload" if blow.start is None else blow.start.action
            reason = f"{blow.fault} in {where} at {configuration}: the process {how}"
            self.vacuous(reason)
        is_finding = False
        try:
            self._judge(configuration, points, blow, fate)
        except Violation as violation:
            is_finding = True
            self.counts["findings"] += 1
            if held_open(self._home):
                # A leftover would spoil every later look, so nobody goes there any more.
                self._home = next(self._homes)
                self.counts["leaks"] += 1
            self._found(told_of(violation, manner_of(fate)), self._story(configuration, blow), nursery)
        series = Series(*blow.kind, faults.KILL)
        self.recorder.tell(PointTried(series, killed, False, blow.located(configuration), is_finding))  # noqa: FBT003

    def _errand(self, configuration: Configuration, points: KillPoints, blow: Blow) -> Errand:
        plan, home = str(blow.fault), str(self._home)
        calls = points.calls_of(blow)
        # A cold session is opened before the plan is armed, unless it is the opening that is cut short.
        cold = blow.start is not None and blow.start.action != OPEN
        return Errand(configuration, home, calls, plan, armed_from=1 if cold else 0)

    def _judge(self, configuration: Configuration, points: KillPoints, blow: Blow, fate: Fate) -> None:
        fate.require_no_failure(restarted=blow.start is not None and bool(blow.start.files))
        for answer in fate.answers:
            call = fate.errand.calls[answer.call]
            wanted = points.answers[call.step] if call.action not in (OPEN, CLOSE) else "done"
            if answer.kind != wanted:
                message = f"{call.action} was {answer.kind}; in a process that is not killed it is {wanted}"
                raise Violation("acknowledged-is-durable", message)
        after = AfterDeath(self.target, configuration, self._home)
        reached = len(fate.answers) if fate.pending is None else fate.pending
        call, expected = fate.errand.calls[min(reached, len(fate.errand.calls) - 1)], points.expected(blow, fate)
        after.start_again(after.disk(expected), call.step, after.finished(call.action, expected))

    # -- findings ------------------------------------------------------------------------------------------

    def _found(self, violation: Violation, story: Story, nursery: Nursery) -> None:
        """Record a finding by its shortest story, if it is the first of its kind."""
        finding = Finding.of(violation, story, self.name)
        if self.recorder.repeats_one(finding):
            return
        keys: tuple[Key, ...] = (self.recorder.key_of(finding),)
        shown = self._shown(story, nursery)
        if shown is None:
            note = f"{violation.message} [seen at this kill; played again as a story it does not show]"
            finding = Finding.of(Violation(violation.code, note, violation.sides), story, self.name)
        else:
            finding = Finding.of(shown[1], shown[0], self.name)
            # A story begins before the kill, so it may show another side of the same defect.
            if finding.code != violation.code:
                if self.recorder.repeats_one(finding):
                    return
                keys = (*keys, self.recorder.key_of(finding))
        self.recorder.found(finding, self.target, Kin(before=keys[:1], after=keys[1:], joins=keys))

    def _shown(self, story: Story, nursery: Nursery) -> tuple[Story, Violation] | None:
        """The shortest story that shows a violation, best one in which the plan has killed; None where nothing does.

        The cold start is a death of its own: where that one shows it already, a story without it may be the better.
        """
        warm = [step for step in story.steps[:-1] if step != Restart(crash=True)]
        warmer = msgspec.structs.replace(story, steps=(*warm, story.steps[-1]))
        home = self.directory / "minimise"
        for one, by_plan in ((story, True), (warmer, True), (story, False)):
            played = partial(_play_if_it_kills, nursery=nursery, by_plan=by_plan)
            again, _ = played(one, self.target, home)
            if again is not None:
                return minimise(one, again, self.target, home, played)
        return None

    def _story(self, configuration: Configuration, blow: Blow) -> Story:
        """The same death as a story, and the restart after it."""
        arm, restart = Arm(str(blow.fault), blow.depth), Restart(crash=True)
        if blow.start is None:
            calls = [Call(action) for action in self.target.workload()]
            return Story(self.target.name, configuration, (arm, *calls, Restart(), restart))
        swept = self._sweep.story(configuration, blow.start, arm)
        return msgspec.structs.replace(swept, steps=(*swept.steps[:-1], restart))


def _play_if_it_kills(
    story: Story, target: Target, directory: Path, nursery: Nursery, *, by_plan: bool
) -> tuple[Violation | None, Counter[str]]:
    """Play a story that has a plan and ends with a restart: a shorter one without them is another story.

    With `by_plan` only what is seen after the plan has killed counts.
    """
    if not kills(story) or story.steps[-1] != Restart(crash=True):
        return None, Counter()
    violation, counts = play_killed(story, target, directory, nursery)
    return (violation if counts["fired"] or not by_plan else None), counts
