"""The ledger's time: whole milliseconds since the Unix epoch, UTC, from a function that the caller passes.

The time is not monotonic: a system clock may jump in both directions. The rules put a record's times in order.
"""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns milliseconds since the epoch, UTC."""


def system_clock() -> int:
    """The system's wall clock, in milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
