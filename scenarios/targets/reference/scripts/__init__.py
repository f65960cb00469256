"""Calls for defects that need no fault, but that random calls may miss: each transition, argument and limit.

A script begins with an empty ledger. Each call has its own minute; `later_ms` advances the clock for one call. Every
call is compared with the model, so a script lists only calls and no expected results.
"""

from functools import cache
from typing import Final

from tornpage.scenarios.targets.reference.scripts import (
    arguments,
    circumstances,
    commands,
    drivers,
    edges,
    hands,
    messages,
    outside,
    runs,
    tasks,
    together,
    upkeep,
)
from tornpage.scenarios.targets.reference.scripts.calls import Script

__all__ = ["Script", "scripts"]


_ROOMS: Final = (
    tasks, upkeep, runs, messages, together, circumstances, commands, outside, drivers, edges, hands, arguments,
)  # fmt: skip


@cache
def scripts() -> tuple[Script, ...]:
    """All of them."""
    made = (
        *map(tasks.transitions, tasks.STATUSES),
        *(one() for room in _ROOMS for one in room.SCRIPTS),
    )
    return tuple(map(tuple, made))
