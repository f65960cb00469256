"""What can be put under test: the targets that ship, by name.

``module:attribute`` names a target of your own; it is imported only when the command line says so, never because a
file does.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Final

from scenarios.target import Target
from scenarios.targets.names import UnknownTargetError


def _reference() -> Target:
    from scenarios.targets.reference import Reference

    return Reference()


def _diskcache() -> Target:
    from scenarios.targets.disk_cache import DiskCache

    return DiskCache()


# Each is made by its own function, so that a missing extra matters only to who asks for it.
SHIPPED: Final[Mapping[str, Callable[[], Target]]] = {"reference": _reference, "diskcache": _diskcache}


def find(name: str) -> Target:
    """The target of that name; raises `UnknownTargetError`."""
    if name in SHIPPED:
        try:
            return SHIPPED[name]()
        except ImportError as error:
            raise UnknownTargetError(
                f"target {name!r} needs a package that is not installed ({error}); install it: pip install 'tornpage[{name}]'"
            ) from error
    if name.startswith("bug:"):
        from scenarios.bugs import find_bug

        return find_bug(name.removeprefix("bug:")).target()
    raise UnknownTargetError(
        f"unknown target {name!r}; known: {', '.join(SHIPPED)}, bug:NAME (see tornpage bugs), or module:attribute of your own"
    )


def find_or_import(name: str) -> Target:
    """Like `find`, and ``module:attribute`` is imported; raises `UnknownTargetError`."""
    module, colon, attribute = name.partition(":")
    if not colon or name in SHIPPED or module == "bug":
        return find(name)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownTargetError(f"cannot import target {name!r}: {error}") from error
    made = found() if isinstance(found, type) else found
    if not isinstance(made, Target):
        missing = sorted(set(Target.__protocol_attrs__) - set(dir(made)))  # type: ignore[attr-defined]
        raise UnknownTargetError(f"{name!r} is not a target: it lacks {', '.join(missing)}")
    return made
