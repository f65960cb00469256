"""The garbage collector: it collects without the warning that Python 3.13 and later give for each connection dropped
unclosed (most are those of stores that a fault has kept from opening), and knows which objects there are.

Not covered: collections that Python starts by itself, in the middle of a call.
"""

import gc
import warnings
import weakref
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, Final

# At each collection Python 3.12 freezes 375 tuples of its own; a program that freezes has many more objects.
_FROZEN_BY_PYTHON: Final = 1_000


def collect(generation: int = 2) -> None:
    """Collect garbage, up to this generation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect(generation)


# Whether all objects that existed at some time are left alone for good; counting them takes as long as looking at each.
_for_good = False
# How many objects were frozen when this module last froze them.
_many = 0
# The types whose objects stay known although they are frozen, and these.
_followed: Final[dict[type, list[weakref.ref[Any]]]] = {}


def freeze(followed: Sequence[Any]) -> None:
    """Let the collector leave alone all objects that exist now, until `unfreeze`; `followed` are those that are."""
    global _many  # noqa: PLW0603 - the collector is the process's
    for kind, known in _followed.items():
        known += [weakref.ref(one) for one in followed if isinstance(one, kind)]
    gc.freeze()
    _many = gc.get_freeze_count()


def unfreeze() -> None:
    """Give the collector back all objects that were frozen, here or elsewhere."""
    global _many  # noqa: PLW0603 - the collector is the process's
    gc.unfreeze()
    for known in _followed.values():
        known.clear()
    _many = 0


def leave_alone(followed: Sequence[Any]) -> None:
    """As `freeze`, until `look_again`."""
    global _for_good  # noqa: PLW0603 - the collector is the process's
    freeze(followed)
    _for_good = True


def look_again() -> None:
    """Give the collector back all objects that were frozen, here or elsewhere."""
    global _for_good  # noqa: PLW0603 - the collector is the process's
    unfreeze()
    _for_good = False


def leaves_alone() -> bool:
    """Whether the collector leaves alone what `leave_alone` has found, or what else this program has frozen."""
    return _for_good or gc.get_freeze_count() > _FROZEN_BY_PYTHON


def follow(kind: type) -> None:
    """Let `all_of` find the objects of a type, which can be referred to weakly, where `freeze` has left them alone."""
    _followed[kind] = []


def is_followed(kind: type) -> bool:
    """Whether the objects of this type are."""
    return issubclass(kind, tuple(_followed))


def all_of(kind: type) -> list[Any]:
    """The objects of a type that is followed. Gives the collector back what the program itself has frozen."""
    if gc.get_freeze_count() > _many + _FROZEN_BY_PYTHON:
        look_again()
    frozen = (known() for known in _followed[kind])
    return [*(one for one in frozen if one is not None), *living(lambda one: issubclass(one, kind))]


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
