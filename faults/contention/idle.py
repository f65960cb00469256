"""Whether other threads work: all of them sleep, as the system reports it, at several looks in a row.

The clock and the sleep are the real ones, also in virtual time and in a test that has frozen its clock. Not covered:
systems without /proc, where nothing is ever idle.
"""

import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tornpage.faults.clock_names import RealClock
from tornpage.faults.files.in_place import never_replaced

POLL_S: Final = 0.002
_SOON_S: Final = 0.0005
# All threads are idle if they sleep at this many polls in a row.
LOOKS: Final = 3
_STATUS_BYTES: Final = 16_384
# They run at each poll: a search that watches files would look each path up.
_open, _read, _close = never_replaced(os.open), never_replaced(os.read), never_replaced(os.close)
# The number of the system call in which a thread waits for a lock, by machine.
_FUTEX: Final = {"x86_64": b"202", "aarch64": b"98"}.get(platform.machine())


def real_monotonic() -> float:
    """The time in seconds, whatever clock the test has."""
    return RealClock.monotonic()


def real_sleep(seconds: float) -> None:
    """Sleep in real time."""
    RealClock.sleep(seconds)


def until_idle(most_s: float, enough: Callable[[], bool] = lambda: False) -> None:
    """Wait until all other threads of this process sleep, or `enough` is true, for at most so many seconds."""
    looks, until = Quiet(at_once=True), real_monotonic() + most_s
    while not enough() and not looks.lasts() and real_monotonic() < until:
        real_sleep(_SOON_S)


def is_reported() -> bool:
    """Whether the system reports what threads do."""
    return Path("/proc/self/task").exists()


def is_alone() -> bool:
    """Whether this process has no other thread."""
    return _asleep("self") == {}


def all_idle() -> bool:
    """Whether all other threads of this process sleep for a moment.

    The event loop stands meanwhile: trio as a guest of another loop has a thread that works when trio waits.
    """
    if is_alone():
        return True
    looks = Quiet()
    for _ in range(LOOKS + 2):
        if looks.lasts():
            return True
        real_sleep(POLL_S)
    return False


def all_wait_for_locks() -> bool:
    """Whether all other threads of this process wait for locks, without a limit, and none of them has run since."""
    seen = _asleep("self")
    return seen is not None and all(_waits_without_a_limit("self", one) for one in seen) and _asleep("self") == seen


class Quiet:
    """Detects that all threads of a process but the calling one sleep, at several polls in a row.

    `at_once`: two are enough where all of them wait for locks, without a limit: only another process could end that.
    """

    def __init__(self, pid: int | str = "self", *, at_once: bool = False) -> None:
        self._pid = pid
        self._at_once = at_once
        self._before: object = None
        self._looks = 0

    def lasts(self) -> bool:
        """Poll once; True if all threads slept at the last few polls. Never True on a system without /proc."""
        seen = _asleep(self._pid)
        self._looks = self._looks + 1 if seen is not None and seen == self._before else 0
        self._before = seen
        return self._looks >= LOOKS or (self._at_once and self._looks == 1 and self._is_for_locks(seen or {}))

    def _is_for_locks(self, asleep: dict[str, bytes]) -> bool:
        """Whether they wait for locks; none of them has run since it was seen asleep."""
        return all(_waits_without_a_limit(self._pid, one) for one in asleep) and _asleep(self._pid) == asleep


def _waits_without_a_limit(pid: int | str, thread: str) -> bool:
    """Whether a thread waits for a lock, and no limit of time is set; False where the system does not report it."""
    call = (_reported(f"/proc/{pid}/task/{thread}/syscall") or b"").split()
    return len(call) > 4 and call[0] == _FUTEX and int(call[4], 16) == 0


def _asleep(pid: int | str) -> dict[str, bytes] | None:
    """Each thread's context switch counters, by id; None if a thread is awake or the system doesn't report it."""
    seen = {}
    asking = str(threading.get_native_id()) if pid == "self" else ""
    try:
        # Youngest first, as those of callers are: one that is awake is enough.
        for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int, reverse=True):  # noqa: PTH208 - it is polled
            if thread == asking:
                continue
            counters = sleep_of(thread, pid)
            if counters is None:
                return None
            seen[thread] = counters
    except OSError:
        return None
    return seen


def sleep_of(thread: int | str | None, pid: int | str = "self") -> bytes | None:
    """A thread's context switch counters; None if it is awake, has ended, or the system doesn't report it."""
    status = _reported(f"/proc/{pid}/task/{thread}/status")
    if status is None or b"State:\tS" not in status:
        return None
    _, name, counters = status.partition(b"voluntary_ctxt")
    return name + counters if name else None


def _reported(path: str) -> bytes | None:
    """What the system reports in a file; None if it doesn't."""
    try:
        file = _open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        status: bytes = _read(file, _STATUS_BYTES)
    except OSError:
        return None
    else:
        return status
    finally:
        _close(file)
