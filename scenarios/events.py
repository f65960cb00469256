"""What the engine tells while it works: frozen events. Terminal, JSON and the rest are handlers of these."""

from collections.abc import Callable
from typing import Any

import msgspec

from scenarios.checks import Violation
from scenarios.story import Story

Counts = dict[str, int]


class Series(msgspec.Struct, frozen=True):
    """The kind of operation and effect that a row of the table of fault points counts."""

    kind: str
    role: str
    timing: str
    effect: str

    def __str__(self) -> str:
        timing = "" if self.timing == "before" else f"/{self.timing}"
        return f"{self.kind}:{self.role}{timing}={self.effect}"


class Finding(msgspec.Struct, frozen=True):
    """A check that failed: what was seen, and the story that shows it again."""

    code: str
    message: str
    story: Story
    sides: dict[str, Any]
    search: str

    @classmethod
    def of(cls, violation: Violation, story: Story, search: str) -> "Finding":
        """A finding from the violation that was raised while the story was played."""
        sides = {name: dict(view) for name, view in violation.sides.items()}
        return cls(violation.code, violation.message, story, sides, search)


class SearchStarted(msgspec.Struct, frozen=True):
    """A way of search begins; `expected` is the number of points or steps, None where it can't be known."""

    search: str
    target: str
    expected: int | None = None


class PointTried(msgspec.Struct, frozen=True):
    """One fault point was tried: whether its fault fired, and whether an error came of it."""

    series: Series
    fired: bool
    surfaced: bool


class Found(msgspec.Struct, frozen=True):
    """A finding; `replay` is the command line that shows it again.

    `promised` is False where the target has declared, with a reason, that it does not promise this: then it is an
    observation, not a failure.
    """

    finding: Finding
    replay: str
    promised: bool = True


class Vacuous(msgspec.Struct, frozen=True):
    """Something that was to be tested was not: the reason."""

    search: str
    reason: str


class StepsDone(msgspec.Struct, frozen=True):
    """The machine has done so many steps, faults, restarts and stories until now."""

    counts: Counts


class SearchEnded(msgspec.Struct, frozen=True):
    """A way of search has ended, after `seconds`; `complete` is False where a limit or an interrupt cut it short."""

    search: str
    target: str
    counts: Counts
    seconds: float
    complete: bool = True


Event = SearchStarted | PointTried | Found | Vacuous | StepsDone | SearchEnded
Handler = Callable[[Event], None]
