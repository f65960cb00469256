"""Waiting that takes no time: what a store sleeps, in SQLite's busy handler or in Python, moves one virtual clock.

Inside the scope ``time.sleep`` returns at once and ``time.monotonic`` tells how long has been slept, by SQLite too; a
look at the clock takes 10 µs, so that a loop that only looks comes to its end. The same calls see the same times in
every run.

Not covered: code that took ``sleep`` or ``monotonic`` out of the module before, ``time.time`` (a store's clock is its
environment's), and waiting for other threads.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Final
from unittest import mock

from tornpage.faults.vfs import waiting
from tornpage.faults.vfs.shims import Shims

_monotonic = time.monotonic
_LOOK_US: Final = 10
_clocks: "list[VirtualTime]" = []


class VirtualTime:
    """The clock of one scope; `slept_us` is what was slept until now, in microseconds."""

    def __init__(self, shim: Shims) -> None:
        self._shim = shim
        self._slept_before_us = shim.slept_us
        self._in_python_us = self._looked_us = 0
        self._began_s = time.monotonic()

    @property
    def slept_us(self) -> int:
        """How long SQLite and Python have slept, in microseconds."""
        return self._shim.slept_us - self._slept_before_us + self._in_python_us

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self._in_python_us += round(seconds * 1_000_000)
        waiting.tell()

    def monotonic(self) -> float:
        """The time, in seconds."""
        self._looked_us += _LOOK_US
        return self._began_s + (self.slept_us + self._looked_us) / 1_000_000


@contextlib.contextmanager
def virtual_time(shim: Shims) -> Iterator[VirtualTime]:
    """Let all sleep be virtual inside this scope; the shim has to be installed with ``virtual_sleep``."""
    clock = VirtualTime(shim)
    with (
        mock.patch.object(time, "sleep", clock.sleep),
        mock.patch.object(time, "monotonic", clock.monotonic),
        _event_loops_in_real_time(),
    ):
        _clocks.append(clock)
        try:
            yield clock
        finally:
            _clocks.remove(clock)


def _event_loops_in_real_time() -> contextlib.AbstractContextManager[object]:
    """An event loop waits in the system, not in ``sleep``: on a clock that stands still its timers never end."""
    loops = sys.modules.get("asyncio.base_events")
    if loops is None:
        return contextlib.nullcontext()
    return mock.patch.object(loops.BaseEventLoop, "time", _in_real_time)


def slept(seconds: float) -> None:
    """Tell every scope that is open of a sleep that somebody else has made virtual."""
    for clock in _clocks:
        clock.sleep(seconds)


def _in_real_time(_loop: object) -> float:
    return _monotonic()
