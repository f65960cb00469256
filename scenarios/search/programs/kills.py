"""Kills of a program of its own: SIGKILL in one of its system calls, cold in one call, or warm in the whole workload.

Method. A run without a fault counts the system calls of each call, and those of one session that makes the whole
workload. The seed draws the given number of kills, always next the system call and file that was hit least; one in four
is warm. The program's process itself is killed, under strace; every answer that it gave must be durable, and the store
must open again (`search.programs.syscalls` and `execution.executor` judge it). The crash search covers a death at
*every* operation.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tornpage.faults.plan import KILL, When
from tornpage.faults.strace import LARGEST_ORDINAL, SyscallFault, possible_effects
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.syscall_injection import intrude
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.events import Series
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Call, Restart, Scenario, Syscall
from tornpage.scenarios.model.target import Configuration, Target
from tornpage.scenarios.model.work import Part
from tornpage.scenarios.search.points import Point
from tornpage.scenarios.search.programs.syscalls import Syscalls, counts_of
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.workload import Start

_WARM: Final = 4


class _WarmPoint(Point, frozen=True):
    """A kill anywhere in a session that makes the whole workload."""


class _Died(NamedTuple):
    """The result of a warm kill."""

    fired: int
    fault: SyscallFault
    surfaced: int = 0


class ProgramKills(Syscalls):
    """Kills one program's processes over configurations; reports findings to a `Recorder`."""

    name = "kill"
    is_random = True
    goes_by_call = False
    looks_when_idle = False

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        kills: int = 20,
        seed: int = 0,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.kills = self.expected = kills

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many processes."""
        return {"kills": plan.profile.kills}

    def parts(self) -> Iterator[Part]:
        """The kills of each configuration: equal shares, the rest goes to the first ones."""
        each, over = divmod(self.kills, len(self.configurations))
        for number, configuration in enumerate(self.configurations):
            if each or number < over:
                yield Part(configuration, most=each + (number < over))

    def own_parts(self) -> Iterator[Part]:
        """Those of the shard; kills are few, and drawn over all calls."""
        yield from (
            part
            for number, part in enumerate(self.parts(), start=self.shard_from)
            if self.shard is None or self.shard.owns(number)
        )

    def points(self, part: Part) -> Iterator[Point]:
        """The deaths that are drawn."""
        configuration, wanted = part.configuration, part.most or 0
        starts = list(self.starts(configuration, Part(configuration)))
        cold = [
            point for start in starts for point in self.points_of(configuration, start) if point.series.effect == KILL
        ]
        warm: list[Point] = list(self._warm(configuration, starts[0]))
        self.counts["points"] += len(cold) + len(warm)
        yield from self._drawn(warm, wanted // _WARM)
        yield from self._drawn(cold, wanted - min(wanted // _WARM, len(warm)))

    def _drawn(self, points: list[Point], most: int) -> Iterator[Point]:
        """So many points, from each kind in turn."""
        by_kind: dict[tuple[str, str], list[Point]] = {}
        for point in points:
            by_kind.setdefault((point.series.kind, point.series.role), []).append(point)
        decks = list(by_kind.values())
        for deck in decks:
            self.generator.shuffle(deck)
        while most > 0 and any(decks):
            for deck in decks:
                if deck and most > 0:
                    most -= 1
                    yield deck.pop()

    def _warm(self, configuration: Configuration, start: Start) -> Iterator[Point]:
        """Every system call of one session that makes the whole workload."""
        home = self.directory / "count"
        place({}, home)
        with Trial(self.target, configuration, home, {}) as trial, intrude(trial, None) as watched:
            trial.open()
            for step, action in enumerate(self.target.workload(), start=1):
                trial.at_step(step)
                trial.call_by_stages(action)
        for (call, role), count in sorted(counts_of(watched.calls).items()):
            if (KILL, False) in possible_effects(call, role):
                for ordinal in range(1, min(count, LARGEST_ORDINAL) + 1):
                    fault = SyscallFault(call, role, When(ordinal, ordinal), KILL)
                    yield _WarmPoint(start, Syscall(str(fault)), Series(call, role, "before", KILL))

    def play(self, configuration: Configuration, point: Point) -> Any:
        """Make one call, or all of them, until the process is killed; judge the files. Raises `Violation`."""
        if not isinstance(point, _WarmPoint):
            return super().play(configuration, point)
        violation, counts = play(self.scenario(configuration, point), self.target, self.directory / "warm")
        if violation is not None:
            raise violation
        self.counts["warm"] += 1
        return _Died(counts["fired"], SyscallFault.parse(point.condition))

    def scenario(self, configuration: Configuration, point: Point) -> Scenario:
        """The same kill as a scenario."""
        if not isinstance(point, _WarmPoint):
            return super().scenario(configuration, point)
        calls = [Call(action) for action in self.target.workload()]
        return Scenario(self.target.name, configuration, (point.step, *calls, Restart()))
