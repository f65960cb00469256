"""The clock that a store under test reads: it stands still during a step, and moves by the same length after each.

A step is a minute by default, so that retries become due and work becomes stale within a short workload. What lasts a
minute or less (a lease, a rate limit) is then over at the next call, and what lasts hours never is: `paced` gives
another length, and a target has one of its own, `clock_step_ms`.
"""

from typing import Final

import msgspec

EPOCH_MS: Final = 1_700_000_000_000
"""The time of step 0, in milliseconds since 1970."""

STEP_MS: Final = 60_000
"""The length of a step where nothing else is said."""


class Clock(msgspec.Struct, frozen=True):
    """A clock that shows `shown_ms` at `step`, and moves by `step_ms` with each step after it."""

    step: int = 0
    shown_ms: int = EPOCH_MS
    step_ms: int = STEP_MS

    def at(self, step: int) -> int:
        """The time at a step, in milliseconds since 1970, which no clock is before."""
        return max(self._moved_to(step), 0)

    def jumped(self, by_ms: int) -> "Clock":
        """The same clock, set forward or back for good."""
        return msgspec.structs.replace(self, shown_ms=self.shown_ms + by_ms)

    def paced(self, step: int, step_ms: int) -> "Clock":
        """The same clock up to a step, with steps of another length from there on."""
        return Clock(step, self._moved_to(step), step_ms)

    def _moved_to(self, step: int) -> int:
        return self.shown_ms + (step - self.step) * self.step_ms
