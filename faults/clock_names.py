"""The names under which a program has Python's clock and its sleep.

``from time import sleep`` binds the function itself, so code that imported it so would go on sleeping in real time
while ``time.sleep`` is replaced. `follow` makes such names of the program and of its installed packages look the
function up in ``time`` at each call. Not covered: functions that are bound elsewhere, such as in a default argument.

A stopped clock (`tornpage.scenarios.model.ambient`) is in charge of the time of day: each sleep is reported to it, and
nothing else may add them.
"""

import sys
import sysconfig
import time
from collections.abc import Callable
from typing import Any, Final

NAMES: Final = ("sleep", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
# They measure real time on purpose.
_LEFT_ALONE: Final = frozenset("tornpage pytest _pytest xdist execnet hypothesis coverage pluggy".split())  # noqa: SIM905
_STANDARD: Final = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_INSTALLED: Final = ("site-packages", "dist-packages")


class RealClock:
    """The system's: whatever replaces it here imports this module first.

    Not as names of the module: freezegun exchanges every such name that stands for a clock.
    """

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


# Called with the seconds of each sleep, real or not; the newest one only.
stopped_clocks: list[Callable[[float], None]] = []
_seen = 0


def _late(name: str) -> Callable[..., Any]:
    def function(*args: Any) -> Any:
        return getattr(time, name)(*args)

    function.__name__ = function.__qualname__ = name
    return function


_originals: Final = {id(getattr(time, name)): _late(name) for name in NAMES}


def follow() -> None:
    """Let the names of all modules that have been imported since the last call follow the module ``time``."""
    global _seen  # noqa: PLW0603 - modules are the process's
    if len(sys.modules) == _seen:
        return
    _seen = len(sys.modules)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _LEFT_ALONE or _is_standard(getattr(module, "__file__", None)):
            continue
        names = getattr(module, "__dict__", {})
        # Few have one.
        if _originals.keys().isdisjoint(map(id, [*names.values()])):
            continue
        for bound, value in list(names.items()):
            if (late := _originals.get(id(value))) is not None:
                setattr(module, bound, late)


def _is_standard(file: str | None) -> bool:
    """Whether a module is Python's own; one without a file is built in, unless it is the program itself."""
    if file is None:
        return True
    return file.startswith(_STANDARD) and not any(part in file for part in _INSTALLED)


def slept(seconds: float) -> None:
    """Tell the stopped clock, if there is one, of a sleep."""
    for clock in stopped_clocks[-1:]:
        clock(seconds)
