"""Calls that show, without any fault, what luck may miss: each transition, argument and limit, to the millisecond.

A script begins with an empty ledger. Each call has a minute of its own; `later_ms` puts the clock forward for one call.
Every call is held against the model, so a script says only what is called and never what must come of it.
"""

from functools import cache

from tornpage.scenarios.targets.reference.scripts import (
    circumstances,
    commands,
    messages,
    outside,
    runs,
    tasks,
    together,
    upkeep,
)
from tornpage.scenarios.targets.reference.scripts.calls import Script

__all__ = ["Script", "scripts"]


@cache
def scripts() -> tuple[Script, ...]:
    """All of them."""
    made = (
        *map(tasks.transitions, tasks.STATUSES),
        *(
            one()
            for room in (tasks, upkeep, runs, messages, together, circumstances, commands, outside)
            for one in room.SCRIPTS
        ),
    )
    return tuple(map(tuple, made))
