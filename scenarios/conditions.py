"""Conditions: what is wrong with the world while a step of a story lasts.

An armed fault plan is one; others are a rival that holds a lock, a limit that is met. A kind of condition is a kind of
step and an *opener*, which puts it in force round a trial and counts what came of it.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from scenarios.story import Arm
from scenarios.trial import Trial


class Condition(Protocol):
    """What a condition came to, and how to keep it from happening for a while."""

    @property
    def fired(self) -> int:
        """How often it has been met."""

    @property
    def surfaced(self) -> int:
        """How many errors have reached a caller."""

    def saw(self, error: BaseException) -> bool:
        """Take in an error that reached a caller; whether it came of this condition."""

    def paused(self) -> AbstractContextManager[None]:
        """Not in force inside this scope: what the harness does for itself is no part of a story."""


Opener = Callable[[Trial, Any], AbstractContextManager[Condition]]


def _arm(trial: Trial, step: Arm) -> AbstractContextManager[Condition]:
    return trial.armed(step.plan, step.depth)


OPENERS: Final[Mapping[type, Opener]] = {Arm: _arm}
