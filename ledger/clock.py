"""Time as the ledger sees it: whole milliseconds since the Unix epoch, UTC, from a function passed in.

Nothing here is monotonic: a system clock may jump either way, and the rules put times in order where they must be.
"""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns milliseconds since the epoch, UTC."""


def system_clock() -> int:
    """The system's wall clock, in milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
