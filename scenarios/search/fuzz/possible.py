"""The rules of a machine that were possible in so many steps: from then on, one that was not used is a coverage gap."""

from collections.abc import Sequence
from typing import Final

from tornpage.scenarios.model.judging.crash_oracle import Promise, promise_of
from tornpage.scenarios.model.target import Configuration, Target, has_plain_files_only
from tornpage.scenarios.search.fuzz.checkpoint import Checkpoint
from tornpage.scenarios.search.fuzz.state_machine import kinds_of_limits

# One of two stops is a power cut; so many stops without any are no chance.
ENOUGH_STOPS: Final = 8
_MANY_STEPS: Final = 20_000


def possible_rules(target: Target, configurations: Sequence[Configuration], steps: int) -> set[str]:
    """The rules that a machine can have used in so many steps."""
    rules = {"call", "arm", "clear", "restart", "crash"}
    if not has_plain_files_only(target):
        rules |= {"contend"} if "vfs" in target.depths else set()
        rules |= {"limit"} if kinds_of_limits(target) else set()
        rules |= {"meet"} if target.callers else set()
    if "vfs" in target.depths:
        rules.add("die")
        promising = [one for one in configurations if promise_of(one, power=True) is not Promise.NOTHING]
        # A machine meets one configuration after the other.
        if promising and (len(promising) == len(configurations) or steps > _MANY_STEPS):
            rules.add("cut power")
    return rules


def was_stopped(checkpoint: Checkpoint) -> int:
    """How often a scenario was stopped: the process died, or the power was cut."""
    return sum(rules.get(stop, 0) for rules in checkpoint.rules.values() for stop in ("die", "cut power"))
