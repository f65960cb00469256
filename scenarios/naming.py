"""What can be put under test: the targets that ship, by name.

``module:attribute`` names a target of your own; it is imported only when the command line says so, never because a
file does.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from scenarios.bugs import find_bug
from scenarios.target import Target
from scenarios.targets.names import BUG_PREFIX, UnknownTargetError, is_imported


def _reference() -> Target:
    from scenarios.targets.reference import Reference  # noqa: PLC0415 - imported by whoever asks for it

    return Reference()


def _diskcache() -> Target:
    from scenarios.targets.disk_cache import DiskCache  # noqa: PLC0415 - needs the extra

    return DiskCache()


def _json_file() -> Target:
    from scenarios.targets.json_file import JsonFile  # noqa: PLC0415 - imported by whoever asks for it

    return JsonFile()


_PARTS: Final = (
    "title", "configurations", "depths", "unpromised", "workload", "heartbeat", "database", "open", "fresh_view",
)  # fmt: skip

# Each is made by its own function, so that a missing extra matters only to who asks for it.
SHIPPED: Final[Mapping[str, Callable[[], Target]]] = {
    "reference": _reference, "diskcache": _diskcache, "json-file": _json_file,
}  # fmt: skip


def find(name: str) -> Target:
    """The target of that name; raises `UnknownTargetError`."""
    if name in SHIPPED:
        try:
            return SHIPPED[name]()
        except ImportError as error:
            raise UnknownTargetError(
                f"target {name!r} needs a package that is not installed ({error}); install it: "
                f"pip install 'tornpage[{name}]'"
            ) from error
    if name.startswith(BUG_PREFIX):
        return find_bug(name.removeprefix(BUG_PREFIX)).target()
    raise UnknownTargetError(
        f"unknown target {name!r}; known: {', '.join(SHIPPED)}, bug:NAME (see tornpage bugs), "
        "or module:attribute of your own"
    )


def find_or_import(name: str) -> Target:
    """Like `find`, and ``module:attribute`` is imported, from the working directory too; raises `UnknownTargetError`.

    What is imported takes that as its name, so that a replay line can name it again.
    """
    if not is_imported(name):
        return find(name)
    module, _, attribute = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
        made = found() if callable(found) else found
    except Exception as error:
        # What is imported is the user's, and may fail in any way.
        raise UnknownTargetError(f"cannot import target {name!r}: {type(error).__name__}: {error}") from error
    missing = sorted(one for one in _PARTS if not hasattr(made, one))
    if missing:
        raise UnknownTargetError(f"{name!r} is not a target: it lacks {', '.join(missing)}")
    target: Target = made
    target.name = name
    return target
