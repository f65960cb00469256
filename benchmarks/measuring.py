"""Measures two things against each other: side by side, in turns, in one run.

On a shared machine absolute times are meaningless, and a pause of its disk affects the side that is running. So both
sides take turns in short chunks, the order changes from chunk to chunk, and a round's ratio is that of the two sums.
The result is the median over rounds, with the lowest and the highest. The ratio in the CPU time of this process is
reported as well: it excludes waiting, mainly for syncs of the disk.

Not covered: the effect of other load on the same disk; it is in both sides.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Literal, Self

import msgspec

from tornpage.faults.contention.idle import real_monotonic

Side = Callable[[], object]


class Spent:
    """Seconds that one side took, by the wall's clock and of this process's CPU time."""

    __slots__ = ("cpu_s", "wall_s")

    def __init__(self, wall_s: float = 0.0, cpu_s: float = 0.0) -> None:
        self.wall_s = wall_s
        self.cpu_s = cpu_s

    def on(self, work: Side) -> Self:
        """Do the work and add its time."""
        cpu_s, wall_s = time.process_time(), real_monotonic()
        work()
        self.wall_s += real_monotonic() - wall_s
        self.cpu_s += time.process_time() - cpu_s
        return self

    def add(self, other: "Spent") -> None:
        """Add a time measured elsewhere."""
        self.wall_s += other.wall_s
        self.cpu_s += other.cpu_s

    def beyond(self, other: "Spent") -> "Spent":
        """How much more this is than something else."""
        return Spent(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


class Round(msgspec.Struct, frozen=True):
    """What each side took for `count` times the same work; `theirs_count` where the other side did it as often."""

    ours: Spent
    theirs: Spent
    count: int
    theirs_count: int = 0

    def wall(self) -> float:
        """The time of one piece of our work over that of one of theirs."""
        return self.ours.wall_s / self.count / (self.theirs.wall_s / (self.theirs_count or self.count))

    def cpu(self) -> float | None:
        """The same in CPU time; None where the work was done by other processes."""
        if not self.theirs.cpu_s:
            return None
        return self.ours.cpu_s / self.count / (self.theirs.cpu_s / (self.theirs_count or self.count))


class Ratio(msgspec.Struct, frozen=True):
    """One line of the table: `ours` over `theirs`, as the median of rounds, and each side's median in microseconds.

    `per` is what the microseconds are for (a transaction, a point …). `aim` is the most it should be, or where
    `at_least` is set the least; None where there is no aim. A line with the unit ``s`` is no ratio but seconds. `cpu`
    is the ratio in CPU time, None where other processes did the work.
    """

    name: str
    place: str
    ours: str
    theirs: str
    median: float
    lowest: float
    highest: float
    cpu: float | None
    ours_us: float
    theirs_us: float
    per: str
    rounds: int
    aim: float | None = None
    at_least: bool = False
    unit: Literal["ratio", "s"] = "ratio"

    @property
    def holds(self) -> bool | None:
        """Whether the aim is reached; None where there is none."""
        if self.aim is None:
            return None
        return self.median >= self.aim if self.at_least else self.median <= self.aim


def in_turns(ours: Side, theirs: Side, *, chunks: int, per_chunk: int) -> Round:
    """Call both sides `chunks` times in turns; each call does `per_chunk` pieces of work."""
    gc.collect()
    ours_spent, theirs_spent = Spent(), Spent()
    for chunk in range(chunks):
        if chunk % 2:
            theirs_spent.on(theirs)
            ours_spent.on(ours)
        else:
            ours_spent.on(ours)
            theirs_spent.on(theirs)
    return Round(ours_spent, theirs_spent, chunks * per_chunk)


def summed_up(
    name: str,
    place: str,
    sides: tuple[str, str],
    rounds: Sequence[Round],
    *,
    per: str,
    aim: float | None = None,
    faster: bool = False,
) -> Ratio:
    """The line of the table that several rounds come to; `sides` names ours and theirs.

    `faster`: say how many times as fast ours is, and the aim is the least; else how many times as long it takes.
    """
    ratios = [1 / one.wall() if faster else one.wall() for one in rounds]
    in_cpu = [1 / cpu if faster else cpu for cpu in (one.cpu() for one in rounds) if cpu]
    return Ratio(
        name=name,
        place=place,
        ours=sides[0],
        theirs=sides[1],
        median=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        cpu=statistics.median(in_cpu) if in_cpu else None,
        ours_us=statistics.median(1e6 * one.ours.wall_s / one.count for one in rounds),
        theirs_us=statistics.median(1e6 * one.theirs.wall_s / (one.theirs_count or one.count) for one in rounds),
        per=per,
        rounds=len(rounds),
        aim=aim,
        at_least=faster,
    )
