"""How much a part of a search has to try, and how long that takes."""

from typing import NamedTuple


class Forecast(NamedTuple):
    """The number of schedules, or of crash states, of a part, and the seconds of each."""

    number: int
    each_s: float
