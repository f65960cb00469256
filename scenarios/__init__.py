"""The harness: what must be true of a store under faults, and the ways to search for where it isn't.

To put a store of your own under test, subclass `SimpleTarget`, or write a `Target`; then
``tornpage check --target module:Name``.
"""

import faults.chosen  # noqa: F401 - before anything imports sqlite3
from scenarios.checks import CHECKS, Check, Violation
from scenarios.simple import SimpleTarget
from scenarios.story import Arm, Call, Clear, ClockJump, Limit, Restart, Story
from scenarios.target import Action, Configuration, Environment, Refused, Session, Target, View

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
