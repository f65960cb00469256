"""The harness: what must be true of a store under faults, and the ways to search for where it isn't.

To put a store of your own under test, subclass `SimpleTarget`, or write a `Target`; then
``tornpage check --target module:Name``.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any, Final

if os.environ.get("TORNPAGE_SQLITE"):
    import faults.chosen  # noqa: F401 - before anything imports sqlite3

if TYPE_CHECKING:
    from scenarios.checks import CHECKS, Check, Violation
    from scenarios.simple import SimpleTarget
    from scenarios.story import Arm, Call, Clear, ClockJump, Limit, Restart, Story
    from scenarios.target import Action, Configuration, Environment, Refused, Session, Target, View

# Where each public name lives. It is imported when it is first asked for: pytest loads the small plugin of this package
# in every run, and would else load all of the harness with it.
_HOMES: Final = {
    "Action": "scenarios.target",
    "Arm": "scenarios.story",
    "CHECKS": "scenarios.checks",
    "Call": "scenarios.story",
    "Check": "scenarios.checks",
    "Clear": "scenarios.story",
    "ClockJump": "scenarios.story",
    "Configuration": "scenarios.target",
    "Environment": "scenarios.target",
    "Limit": "scenarios.story",
    "Refused": "scenarios.target",
    "Restart": "scenarios.story",
    "Session": "scenarios.target",
    "SimpleTarget": "scenarios.simple",
    "Story": "scenarios.story",
    "Target": "scenarios.target",
    "View": "scenarios.target",
    "Violation": "scenarios.checks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = [
    "CHECKS",
    "Action",
    "Arm",
    "Call",
    "Check",
    "Clear",
    "ClockJump",
    "Configuration",
    "Environment",
    "Limit",
    "Refused",
    "Restart",
    "Session",
    "SimpleTarget",
    "Story",
    "Target",
    "View",
    "Violation",
]
