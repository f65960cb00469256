"""Virtual time: each sleep of a store, in SQLite's busy handler or in Python, advances one virtual clock.

Inside the scope ``time.sleep`` returns at once, and ``time.monotonic`` counts the time slept, SQLite's included. Each
read of the clock adds 10 µs, so that a loop that only polls the clock ends. The same calls see the same times in every
run.

Not covered: code that imported ``sleep`` or ``monotonic`` from the module earlier, ``time.time`` (a store's clock
belongs to its environment), and waiting for other threads.
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
    """The clock of one scope; `slept_us` is the time slept so far, in microseconds."""

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
        """Advance the clock."""
        self._in_python_us += round(seconds * 1_000_000)
        waiting.notify()

    def monotonic(self) -> float:
        """The time, in seconds."""
        self._looked_us += _LOOK_US
        return self._began_s + (self.slept_us + self._looked_us) / 1_000_000


@contextlib.contextmanager
def virtual_time(shim: Shims) -> Iterator[VirtualTime]:
    """Make every sleep virtual inside this scope; the shim must be installed with ``virtual_sleep``."""
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
    """Keep event loops on real time: they wait in the system, so a stopped clock blocks their timers."""
    loops = sys.modules.get("asyncio.base_events")
    if loops is None:
        return contextlib.nullcontext()
    return mock.patch.object(loops.BaseEventLoop, "time", _in_real_time)


def slept(seconds: float) -> None:
    """Advance the clock of every open scope by a sleep that other code has made virtual."""
    for clock in _clocks:
        clock.sleep(seconds)


def _in_real_time(_loop: object) -> float:
    return _monotonic()
