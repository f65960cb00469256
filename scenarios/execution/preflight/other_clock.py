"""Another time of day: detects a store that takes the time from the clock instead of from the harness.

Inside `later` ``time.time`` and ``time.time_ns`` return a later time, in the module ``time`` and wherever a module that
is not Python's own has them under any name: what expires has expired. ``datetime`` can't be replaced (pickles name its
class), so `times_of_day_in` looks for the present day in values instead. SQLite's own clock is the shim's, and stands
still.

Not covered: ``time.monotonic`` (timeouts depend on it), and code that only compares a ``datetime`` with the present.
"""

import contextlib
import datetime
import operator
import re
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from types import ModuleType
from typing import Any, Final

from tornpage.scenarios.model.judging.varying import as_seconds

_STANDARD: Final = tuple({str(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_NEAR_S: Final = 86_400 / 4
# Also before the T of ISO 8601.
_DATE: Final = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")


@contextlib.contextmanager
def later(seconds: Callable[[], int]) -> Iterator[None]:
    """Let the time of day be later by so many `seconds` inside this scope, for all threads."""
    now, now_ns = time.time, time.time_ns
    stand_ins: tuple[tuple[Any, Callable[[], float]], ...] = (
        (now, lambda: now() + seconds()),
        (now_ns, lambda: now_ns() + seconds() * 1_000_000_000),
    )
    changed: list[tuple[ModuleType, str, Any]] = []
    try:
        for module in _modules():
            # Few have one, and comparing their values may run their code; `id` calls every audit hook.
            values = [*vars(module).values()]
            for clock, stand_in in stand_ins:
                if not any(map(operator.is_, values, repeat(clock))):
                    continue
                for name, value in list(vars(module).items()):
                    if value is clock:
                        changed.append((module, name, value))
                        setattr(module, name, stand_in)
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)


def times_of_day_in(view: Mapping[str, Any], known: str) -> Iterator[str]:
    """The keys whose values, at any depth, hold the present time or day, unless the text `known` holds them, too."""
    now = time.time()
    days = {datetime.datetime.fromtimestamp(now, zone).date().isoformat() for zone in (None, datetime.UTC)}
    for key, value in view.items():
        if any(_is_present(one, now, days) and str(one) not in known for one in _leaves(value)):
            yield key


def _is_present(value: object, now: float, days: set[str]) -> bool:
    if any(abs(one - now) < _NEAR_S for one in as_seconds(value)):
        return True
    return bool(days.intersection(_DATE.findall(str(value)))) if isinstance(value, str | datetime.date) else False


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _modules() -> list[ModuleType]:
    """The modules of the program and of its installed packages, and ``time`` itself."""
    here = sys.modules[__name__]
    loaded = [one for one in list(sys.modules.values()) if type(one) is ModuleType and one is not here]
    return [time, *(one for one in loaded if _is_users(one))]


def _is_users(module: ModuleType) -> bool:
    file = str(getattr(module, "__file__", None) or "")
    return file != "" and ("-packages" in file or not file.startswith(_STANDARD))
