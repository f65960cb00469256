"""Whether a thread that waits for a lock may wait for another thread of this process, which then needs real time.

A wait in virtual time ends at once, so two threads of a store that write at the same time would meet "database is
locked" without any rival. While another thread works, SQLite's sleep is real; once all others sleep, or wait for a lock
themselves, none of them can give it up, and the sleep is virtual.

Not covered: threads that Python does not know; one that never sleeps is waited for only for a second; and systems
without /proc, where the sleep is always virtual.
"""

import threading
from typing import Final

from tornpage.faults.contention.idle import LOOKS, POLL_S, is_reported, real_monotonic, real_sleep, sleep_of
from tornpage.faults.vfs import waiting

_PATIENCE_S: Final = 1.0
# A sleep of this length or less begins a wait, as SQLite's are at first; so does one that comes so long after the last.
_FIRST_US: Final = 1_000
_APART_S: Final = 0.5
# The threads that ask here, and the state of the others when they were last found asleep.
_asking: set[int] = set()
_asleep: dict[int, bytes] = {}
# By thread: when its wait began, and when it last asked.
_waits: dict[int, tuple[float, float]] = {}


def may_give_up_the_lock(sleep_us: int) -> bool:
    """Whether another thread works that is not waiting for a lock itself; False where callers take turns.

    `sleep_us` is the length of the sleep that asks, in microseconds.
    """
    if threading.active_count() == 1 or waiting.is_heard() or not is_reported():
        return False
    mine, now = threading.get_native_id(), real_monotonic()
    began, last = _waits.get(mine, (now, now))
    began = now if sleep_us <= _FIRST_US or now - last > _APART_S else began
    _waits[mine] = began, now
    if now - began > _PATIENCE_S:
        return False
    _asking.add(mine)
    try:
        return not _others_sleep()
    finally:
        _asking.discard(mine)


def _others_sleep() -> bool:
    """Whether all of them sleep at several looks in a row, or have not run since they did."""
    before: dict[int, bytes] | None = None
    for _ in range(LOOKS + 1):
        seen = _look()
        if seen is None or before not in (None, seen):
            return False
        if before is None and seen == _asleep:
            return True
        before = seen
        real_sleep(POLL_S)
    _asleep.clear()
    _asleep.update(before or {})
    return True


def _look() -> dict[int, bytes] | None:
    seen = {}
    for thread in threading.enumerate():
        number = thread.native_id
        if number is None or number in _asking:
            continue
        counters = sleep_of(number)
        if counters is None:
            return None
        seen[number] = counters
    return seen
