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

    def of(self, step: Interleave, most: int) -> Iterator[Interleave]:
        """One call after the other, then the switch points of the first, with a budget so many at most."""
        yield step
        points = range(1, self._points() + 1)
        chosen = sorted(self._draw.sample(points, most)) if self.limited and most < len(points) else points
        self._left_out(len(points) - len(chosen))
        for at in chosen:
            yield msgspec.structs.replace(step, switch=at)
