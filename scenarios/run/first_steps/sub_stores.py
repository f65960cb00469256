"""The objects in which a store keeps its parts: ``app.users.add(…)``, or a cache of a class of its own.

A part is an attribute, or a public property, whose class comes from the package of the store's class.

Not covered: parts of parts.
"""

import contextlib
import enum
import threading
from typing import Any, Final

from tornpage.scenarios.execution.call_timeout import limit
from tornpage.scenarios.run.first_steps.own_data import A_CALL_S, FAILURES, held, properties

_NO_PARTS: Final = (type, enum.Enum, threading.Thread)


def parts_of(store: Any) -> dict[str, Any]:
    """Its parts by name, each object once, by a public name if it has one."""
    package = _package_of(store)
    names = [*(name for name, _ in held(store)), *properties(store)]
    found: dict[str, Any] = {}
    for name in sorted(names, key=lambda name: name.startswith("_")):
        with contextlib.suppress(*FAILURES), limit(A_CALL_S, f"{name} did not return"):
            part = getattr(store, name)
            is_known = part is store or any(part is one for one in found.values())
            if _package_of(part) == package and not is_known and not isinstance(part, _NO_PARTS):
                found[name] = part
    return found


def _package_of(value: Any) -> str:
    return str(type(value).__module__).partition(".")[0]
