"""tornpage makes every I/O call beneath a SQLite-backed store fail, and checks that memory, disk and answers agree.

To test your own store, subclass `SimpleTarget`, then run ``tornpage check --target module:Name``; to run your own test
under faults, mark it ``@pytest.mark.every_fault``.
`tornpage.faults` raises single faults by hand; `tornpage.ledger` is the reference store.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any, Final

if os.environ.get("TORNPAGE_SQLITE"):
    import tornpage.faults.sqlite_library  # noqa: F401 - before anything imports sqlite3

if TYPE_CHECKING:
    from tornpage import faults, ledger
    from tornpage.scenarios.model.awaited import awaited
    from tornpage.scenarios.model.entered import entered
    from tornpage.scenarios.model.functions import functions
    from tornpage.scenarios.model.judging.answers import NOT_COMPARED
    from tornpage.scenarios.model.judging.checks import CHECKS, Check, Violation
    from tornpage.scenarios.model.scenario import Arm, Call, Clear, ClockJump, ClockPace, Limit, Restart, Scenario
    from tornpage.scenarios.model.simple_target import SimpleTarget
    from tornpage.scenarios.model.target import (
        Action,
        Configuration,
        Environment,
        Machine,
        Refused,
        Session,
        Target,
        TargetError,
        View,
    )
    from tornpage.scenarios.pytest_plugin.conformance import Conformance
    from tornpage.scenarios.run.reproduce.emit_test import require_holds

_MODEL: Final = "tornpage.scenarios.model"

# The module of each public name. It is imported when the name is first used: pytest loads this package in every run of
# a project that has it installed, and must not load all of the harness with it.
_MODULES: Final = {
    **dict.fromkeys(("CHECKS", "Check", "Violation"), f"{_MODEL}.judging.checks"),
    **dict.fromkeys(
        ("Arm", "Call", "Clear", "ClockJump", "ClockPace", "Limit", "Restart", "Scenario"), f"{_MODEL}.scenario"
    ),
    **dict.fromkeys(
        ("Action", "Configuration", "Environment", "Machine", "Refused", "Session", "Target", "TargetError", "View"),
        f"{_MODEL}.target",
    ),
    "awaited": f"{_MODEL}.awaited",
    "entered": f"{_MODEL}.entered",
    "functions": f"{_MODEL}.functions",
    "NOT_COMPARED": f"{_MODEL}.judging.answers",
    "SimpleTarget": f"{_MODEL}.simple_target",
    "Conformance": "tornpage.scenarios.pytest_plugin.conformance",
    "require_holds": "tornpage.scenarios.run.reproduce.emit_test",
}


def __getattr__(name: str) -> Any:
    if name in ("faults", "ledger"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "CHECKS",
    "NOT_COMPARED",
    "Action",
    "Arm",
    "Call",
    "Check",
    "Clear",
    "ClockJump",
    "ClockPace",
    "Configuration",
    "Conformance",
    "Environment",
    "Limit",
    "Machine",
    "Refused",
    "Restart",
    "Scenario",
    "Session",
    "SimpleTarget",
    "Target",
    "TargetError",
    "View",
    "Violation",
    "awaited",
    "entered",
    "faults",
    "functions",
    "ledger",
    "require_holds",
]
