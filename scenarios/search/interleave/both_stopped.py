"""Which of the schedules that stop both callers to try: two of a pair of calls, of hundreds.

Method. Most switch points of a call are locks within one statement, and it makes no difference at which of them it
stands. Schedules that stop the first caller show the line of the store at each point; so both are stopped where a line
begins, after the first one. Of these, those come first that no pair of the same two methods has had.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product
from random import Random

from tornpage.faults.contention.schedule import Hop
from tornpage.faults.contention.turns import Paused
from tornpage.scenarios.model.scenario import Interleave
from tornpage.scenarios.model.target import Action


class BothStopped:
    """Draws from the points of two calls, by what it has seen of them; the same generator gives the same draw."""

    def __init__(self, generator: Random) -> None:
        self._generator = generator
        self._lines: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self._drawn: Counter[object] = Counter()

    def note(self, step: Interleave, hops: Sequence[Hop]) -> None:
        """Note the lines at which the callers of a schedule have stopped."""
        for hop in hops:
            if isinstance(hop.event, Paused) and hop.event.point.where:
                action = step.first if hop.caller == "A" else step.second
                self._lines[str(action)][hop.event.point.number] = str(hop.event.point.where)

    def draw(self, first: Action, second: Action, points: tuple[int, int], most: int) -> list[tuple[int, int]]:
        """The points at which the first and the second caller stop, of calls with so many points."""
        ours, theirs = self._begins(first, points[0]), self._begins(second, points[1])
        pairs = list(product(ours or range(1, points[0] + 1), theirs or range(2, points[1] + 1)))
        drawn = self._generator.sample(pairs, len(pairs))
        drawn.sort(key=lambda pair: self._drawn[self._place(first, second, pair)])
        for pair in drawn[:most]:
            self._drawn[self._place(first, second, pair)] += 1
        return sorted(drawn[:most])

    def _begins(self, action: Action, points: int) -> list[int]:
        """The points of a call, up to this number, before which it was at another line."""
        lines = self._lines[str(action)]
        return [at for at in range(2, points + 1) if at - 1 in lines and lines.get(at, lines[at - 1]) != lines[at - 1]]

    def _place(self, first: Action, second: Action, pair: tuple[int, int]) -> object:
        at, back = (self._lines[str(action)].get(point) for action, point in zip((first, second), pair, strict=True))
        return first.name, second.name, first == second, at, back
