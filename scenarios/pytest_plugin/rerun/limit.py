"""The time limit of a run: code that waits forever under a fault gets a verdict."""

from contextlib import AbstractContextManager
from typing import Final

from tornpage.scenarios.execution import call_timeout
from tornpage.scenarios.execution.call_timeout import TookTooLongError

__all__ = ["TookTooLongError", "limit", "limit_of"]

DEFAULT_S: Final = 10.0
_TIMES_AS_LONG: Final = 10


def limit_of(given_s: float | None, usual_s: float) -> float:
    """The time limit of a run: the requested one, else ten seconds, or ten times a run without a fault."""
    return given_s if given_s is not None else max(DEFAULT_S, _TIMES_AS_LONG * usual_s)


def limit(seconds: float) -> AbstractContextManager[None]:
    """Raise `TookTooLongError` in this scope once so many seconds are over."""
    return call_timeout.limit(seconds, f"still running after {seconds:g} s (--tornpage-timeout)", insists=True)
