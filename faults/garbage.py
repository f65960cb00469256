"""The garbage collector: it collects without the warning that Python 3.13 and later give for each connection dropped
unclosed (most are those of stores that a fault has kept from opening), and knows which objects there are.

Not covered: collections that Python starts by itself, in the middle of a call.
"""

import gc
import warnings
from collections.abc import Callable, Collection
from typing import Any


def collect(generation: int = 2) -> None:
    """Collect garbage, up to this generation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect(generation)


def living(is_such: Callable[[type], bool], generation: int | None = None) -> list[Any]:
    """The objects of some types that the collector knows, of all generations or of one.

    Types are judged, once each: asking an object for its class may run its code, and there are 100,000 objects.
    """
    objects = gc.get_objects(generation)
    kinds: Collection[type]
    try:
        kinds = {*map(type, objects)}
    except TypeError:
        # A metaclass has left its classes without a hash.
        kinds = {id(kind): kind for kind in map(type, objects)}.values()
    such = {id(kind) for kind in kinds if is_such(kind)}
    return [one for one in objects if id(type(one)) in such] if such else []
