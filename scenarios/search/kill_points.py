"""The kill points of one configuration, the expected results of their calls, and the draw.

A point is an operation and a timing: the sweep's dry runs count the operations of each call in a cold session, a dry
run of the whole workload those of a warm one. The release of a shared-memory lock has no name in a plan, so no point.
"""

import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Self

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.in_place import in_the_place_of
from tornpage.scenarios.execution.kill.protocol import Timed
from tornpage.scenarios.execution.kill.recovery_check import Expected
from tornpage.scenarios.execution.kill.supervisor import ExitStatus
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.events import Place, Series
from tornpage.scenarios.model.judging.answers import agreed, in_words, is_wrong
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Depth
from tornpage.scenarios.model.target import Configuration, Target
from tornpage.scenarios.search.points import Point
from tornpage.scenarios.search.workload import Start

# One in so many kills is warm: its process makes the whole workload up to its death, a cold one a single call.
_ONE_WARM_IN: Final = 4

Kind = tuple[str, str, str]


class KillPoint(Point, frozen=True, kw_only=True):
    """One kill. A warm one is anywhere in the whole workload, made by one process; `start` is its first call."""

    fault: faults.Fault
    is_warm: bool

    @classmethod
    def of(cls, fault: faults.Fault, start: Start, *, is_warm: bool) -> Self:
        """The kill by a fault in one call, or in the whole workload."""
        depth: Depth = "statement" if fault.kind in faults.STATEMENT_KINDS else "vfs"
        series = Series(fault.kind, fault.role, fault.timing, faults.KILL)
        return cls(start=start, step=Arm(str(fault), depth), series=series, fault=fault, is_warm=is_warm)

    @property
    def kind(self) -> Kind:
        """The key of the table of kills: kind of operation, role of the file, timing."""
        return self.fault.kind, self.fault.role, self.fault.timing

    @property
    def files(self) -> Files:
        """The files on disk when its process begins."""
        return {} if self.is_warm else self.start.files

    @property
    def call(self) -> str:
        """The place of the kill in words."""
        return "the whole workload" if self.is_warm else self.start.call

    def located(self, configuration: Configuration) -> Place:
        """The place of the kill in the workload."""
        if self.is_warm:
            return Place(configuration, 0, self.call, self.condition)
        return super().located(configuration)


class KillPoints:
    """The points of one configuration. `number` of them; `answers` by step, as a process without a kill gets them.

    It runs the target in `home`, which has the place of `at` when answers are compared: there the processes run.
    """

    def __init__(
        self, target: Target, starts: list[Start], configuration: Configuration, home: Path, at: Path | None = None
    ) -> None:
        self._starts = starts
        self.answers: dict[int, str] = {}
        calls = [start for start in self._starts if start.action not in (OPEN, CLOSE)]
        closing = [start for start in self._starts if start.action == CLOSE]
        # A warm process: it opens in an empty directory, makes each call, and closes.
        self._warm_life = (self._starts[0], *calls, *closing)
        self._cold: defaultdict[Kind, list[tuple[int, int]]] = defaultdict(list)
        self._warm: defaultdict[Kind, list[tuple[int, int]]] = defaultdict(list)
        for index, start in enumerate(self._starts):
            self._add(self._cold, index, start.counts)
        counts = self._count_warm(target, configuration, home, watched=False)
        if "statement" in target.depths:
            counts |= self._count_warm(target, configuration, home, watched=True)
        self._add(self._warm, -1, counts)
        self._home, self._at = home, at or home
        self._opened = partial(Trial, target, configuration, self._at)
        self._values = [self._warm_values() for _ in range(2)]
        self.number = sum(len(points) for pool in (self._cold, self._warm) for points in pool.values())

    # -- counting ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _placed(self, files: Files) -> Iterator[None]:
        """With these files where the processes have theirs, whose answers may name that place."""
        place(files, self._home)
        with in_the_place_of(self._at, self._home) if self._at != self._home else contextlib.nullcontext():
            yield

    def _warm_values(self) -> dict[int, object]:
        """The answer of each call of the whole workload, by its step, in a warm process."""
        with self._placed({}), self._opened({}) as trial:
            values = {}
            for start in self._warm_life:
                trial.at_step(start.step)
                values[start.step] = trial.call(start.action, start.after).value
        return values

    def _answer_again(self, start: Start) -> object:
        """The call's answer in a session that has just been opened, without a kill."""
        with self._placed(start.files), self._opened(start.before) as trial:
            trial.at_step(start.step)
            if start.action != OPEN:
                trial.open()
            return trial.call(start.action, start.after).value

    def _add(self, pool: dict[Kind, list[tuple[int, int]]], index: int, counts: dict[tuple[str, str], int]) -> None:
        for (kind, role), number in counts.items():
            for timing in _TIMINGS.get(kind, ()):
                pool[kind, role, timing] += [(index, ordinal) for ordinal in range(1, number + 1)]

    def _count_warm(
        self, target: Target, configuration: Configuration, home: Path, *, watched: bool
    ) -> dict[tuple[str, str], int]:
        """Make the whole workload as a warm process does, at one of the depths."""
        place({}, home)
        with Trial(target, configuration, home, {}) as trial:
            if watched:
                trial.watch_statements()
            with trial.statements.count_operations() if watched else faults.count_operations(home) as counter:
                for start in self._warm_life:
                    trial.at_step(start.step)
                    self.answers[start.step] = trial.call(start.action, start.after).kind
        return dict(counter.counts)

    # -- drawing -------------------------------------------------------------------------------------------

    def draw(self, number: int, generator: random.Random) -> Iterator[KillPoint]:
        """Up to so many points, none twice: always next the kind that was drawn least."""
        drawn: Counter[Kind] = Counter()
        for turn in range(1, number + 1):
            pools = (self._cold, self._warm) if turn % _ONE_WARM_IN else (self._warm, self._cold)
            pool = next((one for one in pools if any(one.values())), None)
            if pool is None:
                return
            left = sorted(kind for kind, points in pool.items() if points)
            least = min(drawn[kind] for kind in left)
            chosen = generator.choice([kind for kind in left if drawn[kind] == least])
            points = pool[chosen]
            index, ordinal = points.pop(generator.randrange(len(points)))
            drawn[chosen] += 1
            kind, role, timing = chosen
            fault = faults.Fault(kind, faults.KILL, role, faults.When(ordinal, ordinal), timing)
            is_warm = pool is self._warm
            yield KillPoint.of(fault, self._starts[0 if is_warm else index], is_warm=is_warm)

    # -- the process, and its allowed results -------------------------------------------------------------------

    def calls_of(self, kill_point: KillPoint) -> tuple[Timed, ...]:
        """The calls of the process that is to be killed."""
        return tuple(Timed(start.step, start.action) for start in self._life(kill_point))

    def expected(self, kill_point: KillPoint, exit_status: ExitStatus) -> Expected:
        """The states that the file may hold after that kill."""
        life = self._life(kill_point)
        if exit_status.pending is not None:
            start = life[exit_status.pending]
            return Expected(start.before, start.after, start.stages)
        acknowledged = life[len(exit_status.answers) - 1].after if exit_status.answers else life[0].before
        return Expected(acknowledged, acknowledged)

    def judge_answer(self, kill_point: KillPoint, call: Timed, value: object) -> None:
        """Compare an answer before the kill with that of a process that is not killed; raises `Violation`."""
        start = kill_point.start
        if kill_point.is_warm:
            wanted = agreed(*(values.get(call.step) for values in self._values))
            again: Callable[[], object] = lambda: self._warm_values().get(call.step)  # noqa: E731 - two of a kind
        else:
            wanted, again = start.wanted, lambda: self._answer_again(start)
        if is_wrong(value, wanted, again):
            message = f"{call.action} returned {in_words(value)}; in a process that is not killed, {in_words(wanted)}"
            raise Violation("wrong-answer", message)

    def _life(self, kill_point: KillPoint) -> tuple[Start, ...]:
        start = kill_point.start
        if kill_point.is_warm:
            return self._warm_life
        if start.action == OPEN:
            return (start,)
        return (msgspec.structs.replace(start, action=OPEN, after=start.before, stages=()), start)


def _timings() -> dict[str, tuple[str, ...]]:
    """The timings at which a kill can hit an operation of each kind, from the catalogue."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in faults.possibilities():
        if line.effects == (faults.KILL,) and line.kind != "any":
            found[line.kind].append(line.timing)
    return {kind: tuple(timings) for kind, timings in found.items()}


_TIMINGS: Final = _timings()
