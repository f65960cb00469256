"""The cost of a fault point with the harness, against the same steps without it (`benchmarks.bare`).

Real fault points of the reference ledger's sweep over a workload of task calls, drawn by a seed from every call
(except opening and closing: their points have other steps), each run completely: armed, fired, judged, counted.
Behind each point its bare steps run for the same call on the same files, without a fault. A round's ratio is that of
the two sums.

If a crash copy equals an earlier one of the same call, neither the harness nor the bare steps open it again. The
ledger's reaction to the fault (rolling back, reading again, a fence) is in the harness's time only.
"""

import contextlib
import functools
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bare import Bare, KeptOpen
from benchmarks.measuring import Ratio, Round, Spent, summed_up
from benchmarks.warm import WarmTrial

from tornpage import faults
from tornpage.scenarios.execution.reopen import Reopened
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.model.scenario import Arm
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.search.points import Point
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.search.workload import Start
from tornpage.scenarios.targets.reference.target import Reference

_POINTS_A_SESSION = 25
_AIM = 1.25


class Measured(Reference):
    """The reference with calls that are one method each, so that the bare steps can make the very same."""

    def workload(self) -> tuple[Action, ...]:
        """Every kind of change of a task, once."""
        create = {"runtime": "cli", "requester_session_key": "main", "task": "work"}
        return (
            Action("tasks.create", {"id": "a", **create}),
            Action("tasks.create", {"id": "b", **create, "run_id": "run-1", "requester_origin": {"channel": "mail"}}),
            Action("tasks.start", {"task_id": "a"}),
            Action("tasks.progress", {"task_id": "a", "text": "half way"}),
            Action("tasks.set_delivery_state", {"task_id": "a", "last_notified_event_at": 5}),
            Action("tasks.finish", {"task_id": "a", "status": "succeeded", "terminal_summary": "done"}),
            Action("tasks.cancel", {"task_id": "b"}),
            Action("tasks.delete", {"task_id": "b"}),
        )


class Sums:
    """What one round took, and its points: the harness, the same steps, the shortest steps."""

    def __init__(self) -> None:
        self.harness, self.same, self.shortest = Spent(), Spent(), Spent()
        self.points = 0

    def against_same(self) -> Round:
        """The harness against the same steps."""
        return Round(self.harness, self.same, self.points)

    def against_shortest(self) -> Round:
        """The harness against the shortest steps."""
        return Round(self.harness, self.shortest, self.points)


class FaultPoints:
    """Measures fault points of the reference at one configuration."""

    def __init__(self, configuration: Configuration, directory: Path, place: str, *, points_per_call: int) -> None:
        self.configuration = configuration
        self.place = f"{place}, {configuration}"
        self.points_per_call = points_per_call
        self.target = Measured()
        self.recorder = Recorder()
        self.sweep = Sweep(self.target, self.recorder, directory / "harness", configurations=(configuration,))
        self.directory = directory
        self.bare = Bare(configuration, directory / "bare", self.target.heartbeat())
        with faults.install():
            self.starts = [one for one in self.sweep.starts(configuration) if one.action not in (OPEN, CLOSE)]

    def measure(self, rounds: int) -> Iterator[Ratio]:
        """The four lines: cold and warm, against the same steps and against the shortest."""
        for name, procedure in (("cold", self._cold), ("warm", self._warm)):
            sums = [procedure(random.Random(number)) for number in range(rounds)]  # noqa: S311 - a sample
            ours = f"{name} fault point"
            same, shortest = [one.against_same() for one in sums], [one.against_shortest() for one in sums]
            sides = ours, "the same steps, bare"
            yield summed_up(f"{name} point", self.place, sides, same, per="point", aim=_AIM)
            sides = ours, "the shortest steps, bare"
            yield summed_up(f"{name} point, all its checks", self.place, sides, shortest, per="point")
        if self.recorder.findings or self.recorder.vacuous:
            raise RuntimeError("the sweep found something, or nothing fired: its times mean nothing")

    def _drawn(self, start: Start, generator: random.Random) -> list[Point]:
        points = list(self.sweep.points_of(self.configuration, start))
        return generator.sample(points, min(self.points_per_call, len(points)))

    def _cold(self, generator: random.Random) -> Sums:
        sums = Sums()
        for start in self.starts:
            for point in self._drawn(start, generator):
                self._one_cold(start, point, sums)
        return sums

    def _one_cold(self, start: Start, point: Point, sums: Sums) -> None:
        reopened = self.sweep.reopened_at(self.configuration)
        before = reopened.opened
        with faults.install():
            sums.harness.on(lambda: self.sweep.try_point(self.configuration, point))
        crash = reopened.opened > before
        self.bare.now_ms = start.step
        sums.same.on(lambda: self.bare.same_cold(start.files, start.action, crash=crash))
        sums.shortest.on(lambda: self.bare.shortest_cold(start.files, start.action))
        sums.points += 1

    def _warm(self, generator: random.Random) -> Sums:
        sums = Sums()
        for start in self.starts:
            drawn = self._drawn(start, generator)
            for depth in self.target.depths:
                points = [point for point in drawn if isinstance(point.step, Arm) and point.step.depth == depth]
                for first in range(0, len(points), _POINTS_A_SESSION):
                    self._session(start, depth, points[first : first + _POINTS_A_SESSION], sums)
        return sums

    def _session(self, start: Start, depth: str, points: list[Point], sums: Sums) -> None:
        """Some points in one open session; opening and closing it are not in the times of either side."""
        reopened = Reopened(self.target, self.configuration, self.directory / "reopened")
        shortest = Bare(self.configuration, self.directory / "shortest", self.target.heartbeat())
        self.bare.now_ms = shortest.now_ms = start.step
        home = self.directory / "warm"
        with contextlib.ExitStack() as scopes:
            warm = WarmTrial(self.target, self.configuration, home, start.files, start.before, start.step, depth)
            # The shim is there while the harness is at work, and only then: the bare side's files are SQLite's own.
            with faults.install():
                scopes.enter_context(warm)
            same = scopes.enter_context(KeptOpen(self.bare, start.files, start.action))
            short = scopes.enter_context(KeptOpen(shortest, start.files, start.action))
            for point in points:
                play = functools.partial(warm.play, point.condition, start.action, start.after, reopened)
                before = reopened.opened
                with faults.install():
                    sums.harness.on(play)
                sums.same.on(functools.partial(same.same, crash=reopened.opened > before))
                sums.shortest.on(short.shortest)
                sums.points += 1
