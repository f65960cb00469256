"""The schedules of a pair of calls that is tried beyond the number: one after the other, and at switch points.

With a budget at a few of them, drawn by the seed.
"""

from collections.abc import Callable, Iterator
from random import Random

import msgspec

from tornpage.scenarios.model.scenario import Interleave


class FewPoints:
    """Such schedules of one pair after the other.

    `points`: the number of switch points of the first call of the schedule that was tried last. `left_out` is told how
    many schedules the budget leaves out; it does only where there is one (`limited`).
    """

    def __init__(
        self, draw: Random, points: Callable[[], int], left_out: Callable[[int], None], *, limited: bool
    ) -> None:
        self._draw, self._points, self._left_out, self.limited = draw, points, left_out, limited
        # By the first call: the points that no schedule of it has had yet.
        self._new: dict[str, list[int]] = {}

    def of(self, step: Interleave, most: int) -> Iterator[Interleave]:
        """One call after the other, then the switch points of the first, with a budget so many at most.

        Those come first that schedules of the same first call have not had.
        """
        yield step
        points = range(1, self._points() + 1)
        chosen = self._drawn(str(step.first), points, most) if self.limited and most < len(points) else points
        self._left_out(len(points) - len(chosen))
        for at in chosen:
            yield msgspec.structs.replace(step, switch=at)

    def _drawn(self, first: str, points: range, most: int) -> list[int]:
        new = [point for point in self._new.get(first, points) if point in points]
        again = [point for point in points if point not in new]
        chosen = [*self._draw.sample(new, min(most, len(new))), *self._draw.sample(again, max(most - len(new), 0))]
        self._new[first] = [point for point in new if point not in chosen] or [*points]
        return sorted(chosen)
