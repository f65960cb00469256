"""The harness: what must be true of a store under faults, and the ways to search for where it isn't.

To put a store of your own under test, subclass `SimpleTarget`, or write a `Target`; then
``tornpage check --target module:Name``.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any, Final

if os.environ.get("TORNPAGE_SQLITE"):
    import tornpage.faults.sqlite_library  # noqa: F401 - before anything imports sqlite3

if TYPE_CHECKING:
    from tornpage.scenarios.model.checks import CHECKS, Check, Violation
    from tornpage.scenarios.model.scenario import Arm, Call, Clear, ClockJump, Limit, Restart, Scenario
    from tornpage.scenarios.model.simple_target import SimpleTarget
    from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, Session, Target, View

# Where each public name lives. It is imported when it is first asked for: pytest loads the small plugin of this package
# in every run, and would else load all of the harness with it.
_HOMES: Final = {
    "Action": "tornpage.scenarios.model.target",
    "Arm": "tornpage.scenarios.model.scenario",
    "CHECKS": "tornpage.scenarios.model.checks",
    "Call": "tornpage.scenarios.model.scenario",
    "Check": "tornpage.scenarios.model.checks",
    "Clear": "tornpage.scenarios.model.scenario",
    "ClockJump": "tornpage.scenarios.model.scenario",
    "Configuration": "tornpage.scenarios.model.target",
    "Environment": "tornpage.scenarios.model.target",
    "Limit": "tornpage.scenarios.model.scenario",
    "Refused": "tornpage.scenarios.model.target",
    "Restart": "tornpage.scenarios.model.scenario",
    "Session": "tornpage.scenarios.model.target",
    "SimpleTarget": "tornpage.scenarios.model.simple_target",
    "Scenario": "tornpage.scenarios.model.scenario",
    "Target": "tornpage.scenarios.model.target",
    "View": "tornpage.scenarios.model.target",
    "Violation": "tornpage.scenarios.model.checks",
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
    "Scenario",
    "Target",
    "View",
    "Violation",
]
