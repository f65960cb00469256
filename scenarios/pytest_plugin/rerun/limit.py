"""A limit on the time of a run: code that waits for ever under a fault gets a verdict."""

from contextlib import AbstractContextManager

from tornpage.scenarios.execution import call_timeout
from tornpage.scenarios.execution.call_timeout import TookTooLongError

__all__ = ["TookTooLongError", "limit"]


def limit(seconds: float) -> AbstractContextManager[None]:
    """Raise `TookTooLongError` in this scope once so many seconds are over."""
    return call_timeout.limit(seconds, f"still running after {seconds:g} s (--tornpage-timeout)")
