"""The garbage collector: it collects without the warning that Python 3.13 and later give for each connection dropped
unclosed (most are those of stores that a fault has kept from opening), and knows which objects there are.

Not covered: collections that Python starts by itself, in the middle of a call.
"""

import gc
import warnings
from collections.abc import Callable
from itertools import compress
from typing import Any


def collect(generation: int = 2) -> None:
    """Collect garbage, up to this generation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect(generation)


# Whether all objects that existed at some time are left alone for good; counting them takes as long as looking at each.
_for_good = False


def leave_alone() -> None:
    """Let the collector leave alone all objects that exist now, until `look_again`."""
    global _for_good  # noqa: PLW0603 - the collector is the process's
    gc.freeze()
    _for_good = True


def look_again() -> None:
    """Give the collector back all objects that were frozen, here or elsewhere."""
    global _for_good  # noqa: PLW0603 - the collector is the process's
    gc.unfreeze()
    _for_good = False


def leaves_alone(more_than: int = 0) -> bool:
    """Whether the collector leaves alone what `leave_alone` has found, or so many other objects."""
    return _for_good or gc.get_freeze_count() > more_than


def living(is_such: Callable[[type], bool], generation: int | None = None) -> list[Any]:
    """The objects of some types that the collector knows, of all generations or of one.

    Types are judged: asking an object for its class may run its code. There are 100,000 objects, so no line of Python
    runs for each of them, nor `id`, which calls every audit hook.
    """
    objects = gc.get_objects(generation)
    kinds = [*map(type, objects)]
    try:
        such = {*filter(is_such, {*kinds})}
        return [*compress(objects, map(such.__contains__, kinds))] if such else []
    except TypeError:
        # A metaclass has left its classes without a hash.
        return [one for one, kind in zip(objects, kinds, strict=True) if is_such(kind)]
