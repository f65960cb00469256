"""How two things are measured against each other: side by side, in turns, in one run.

A machine that others use too makes every absolute time meaningless, and a pause of its disk hits whoever runs just
then. So both sides take turns in short chunks, the order changes from chunk to chunk, a round's ratio is that of the
two sums, and what is reported is the median over rounds, with the lowest and the highest beside it.

Not covered: what either side costs while something else competes for the same disk; that is in both.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence

import msgspec

Side = Callable[[], object]


class Ratio(msgspec.Struct, frozen=True):
    """One line of the table: `ours` over `theirs`, as the median of rounds, and each side's median in microseconds.

    `per` is what the microseconds are for (a transaction, a point …). `aim` is the most it should be, None where
    there is no aim.
    """

    name: str
    place: str
    ours: str
    theirs: str
    median: float
    lowest: float
    highest: float
    ours_us: float
    theirs_us: float
    per: str
    rounds: int
    aim: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the aim is reached; None where there is none."""
        return None if self.aim is None else self.median <= self.aim


class Round(msgspec.Struct, frozen=True):
    """Seconds that each side took for `count` times the same work."""

    ours_s: float
    theirs_s: float
    count: int


def in_turns(ours: Side, theirs: Side, *, chunks: int, per_chunk: int) -> Round:
    """Call both sides `chunks` times in turns; each call does `per_chunk` pieces of work."""
    gc.collect()
    ours_s = theirs_s = 0.0
    for chunk in range(chunks):
        if chunk % 2:
            theirs_s += seconds(theirs)
            ours_s += seconds(ours)
        else:
            ours_s += seconds(ours)
            theirs_s += seconds(theirs)
    return Round(ours_s, theirs_s, chunks * per_chunk)


def seconds(work: Side) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def summed_up(
    name: str, place: str, sides: tuple[str, str], rounds: Sequence[Round], *, per: str, aim: float | None = None
) -> Ratio:
    """The line of the table that several rounds come to; `sides` names ours and theirs."""
    ratios = [one.ours_s / one.theirs_s for one in rounds]
    return Ratio(
        name=name,
        place=place,
        ours=sides[0],
        theirs=sides[1],
        median=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        ours_us=statistics.median(1e6 * one.ours_s / one.count for one in rounds),
        theirs_us=statistics.median(1e6 * one.theirs_s / one.count for one in rounds),
        per=per,
        rounds=len(rounds),
        aim=aim,
    )
