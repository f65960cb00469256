"""Virtual time: each sleep of a store, in SQLite's busy handler or in Python, advances one virtual clock.

Inside the scope ``time.sleep`` returns at once, and ``time.monotonic``, ``time.time`` and ``time.perf_counter`` count
the time slept, SQLite's included. Each read of a clock adds 10 µs, so that a loop that only polls it ends.

Not covered: functions of ``time`` that are bound elsewhere than in a module (`faults.clock_names`), ``datetime.now``,
and waiting for other threads, but for that of callers that take turns (`timed_waits`).
"""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from tornpage.faults import clock_names
from tornpage.faults.contention import timed_waits
from tornpage.faults.replaced import replaced
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
        # The time of day is added to whatever clock is in force.
        self._times: dict[str, Callable[[], float]] = {
            name: getattr(time, name) for name in ("monotonic", "perf_counter", "time")
        }
        self._began_s = {name: function() for name, function in self._times.items()}

    @property
    def slept_us(self) -> int:
        """How long SQLite and Python have slept, in microseconds."""
        return self._shim.slept_us - self._slept_before_us + self._in_python_us

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self._in_python_us += round(seconds * 1_000_000)
        clock_names.slept(seconds)
        waiting.notify("sleep")

    def read(self, name: str) -> float:
        """The time of ``monotonic``, ``perf_counter`` or ``time``, in seconds."""
        if name == "time" and clock_names.stopped_clocks:
            return self._times[name]()
        self._looked_us += _LOOK_US
        return self._began_s[name] + (self.slept_us + self._looked_us) / 1_000_000

    def functions(self) -> Iterator[tuple[str, Callable[[], float | int]]]:
        """The functions of ``time`` that it stands in for, by name."""
        for name in self._times:
            yield name, functools.partial(self.read, name)
            yield f"{name}_ns", functools.partial(self._in_ns, name)

    def _in_ns(self, name: str) -> int:
        return round(self.read(name) * 1_000_000_000)


@contextlib.contextmanager
def virtual_time(shim: Shims) -> Iterator[VirtualTime]:
    """Make every sleep virtual inside this scope; the shim must be installed with ``virtual_sleep``."""
    clock = VirtualTime(shim)
    clock_names.follow()
    with (
        replaced(time, sleep=clock.sleep, **dict(clock.functions())),
        _event_loops_in_real_time(),
        timed_waits.in_virtual_time(clock),
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
    return replaced(loops.BaseEventLoop, time=_in_real_time)


def slept(seconds: float) -> None:
    """Advance the clock of every open scope by a sleep that other code has made virtual."""
    for clock in _clocks:
        clock.sleep(seconds)


def _in_real_time(_loop: object) -> float:
    return _monotonic()
