"""What the engine tells while it works: frozen events. Terminal, JSON and the rest are handlers of these."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import Outcome
from tornpage.scenarios.model.scenario import Scenario
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Need

Counts = dict[str, int]
# How much of what there is a search has tried; random: it draws from what has no end; "": not said.
Extent = Literal["exhaustive", "sampled", "random", ""]
# What is said of a finding whose scenario, played by itself, does not show it.
NOT_SHOWN = "seen at this point; its scenario, played again, does not show it"


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
    """A check that failed: what was seen, and the scenario that shows it; `shows_again` is whether it did once more."""

    code: str
    message: str
    scenario: Scenario
    sides: dict[str, Any]
    search: str
    shows_again: bool = True

    @classmethod
    def of(
        cls, violation: Violation, scenario: Scenario, search: str, note: str = "", *, shows_again: bool = True
    ) -> "Finding":
        """A finding from the violation that playing the scenario raised; `note` is added to its message."""
        sides = {name: dict(view) for name, view in violation.sides.items()}
        note = note if shows_again else NOT_SHOWN
        message = _printable(f"{violation.message} ({note})" if note else violation.message)
        return cls(violation.code, message, scenario, sides, search, shows_again)


def _printable(text: str) -> str:
    """The text with control characters escaped: a key of a store may hold any, and terminals and CI obey some."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class SearchStarted(msgspec.Struct, frozen=True):
    """A way of search begins; `expected` is the number of points or steps, None where it can't be known."""

    search: str
    target: str
    expected: int | None = None


class Place(msgspec.Struct, frozen=True):
    """Where along the workload a point is: in which step, which is which call, and what went wrong there, in words."""

    configuration: Configuration
    step: int
    call: str
    condition: str


class PointTried(msgspec.Struct, frozen=True):
    """One fault point was tried: whether its fault fired, whether an error came of it, and whether a check failed."""

    series: Series
    fired: bool
    surfaced: bool
    place: Place
    is_finding: bool = False


class Found(msgspec.Struct, frozen=True):
    """A finding; `replay` is the command line that shows it again.

    `promised` is False where the target has declared, with a reason, that it does not promise this: then it is an
    observation, not a failure. `accepted_because` says why a baseline accepts it; "": none does.
    """

    finding: Finding
    replay: str
    promised: bool = True
    accepted_because: str = ""


class Vacuous(msgspec.Struct, frozen=True):
    """Something that was to be tested was not: the reason."""

    search: str
    reason: str


class StepsDone(msgspec.Struct, frozen=True):
    """The machine has done so many steps, faults, restarts and scenarios until now."""

    counts: Counts


class StatesTried(msgspec.Struct, frozen=True):
    """So many crash states have been tried until now, on so many different disks."""

    states: int
    disks: int


class CrashPoint(msgspec.Struct):
    """The crash states of one configuration just after one operation of the workload; counts as in `CrashesTried`."""

    operation: str
    step: int
    call: str
    states: int = 0
    lossy: int = 0
    reappeared: int = 0
    damaged: int = 0
    findings: int = 0

    def took(self, outcome: Outcome) -> None:
        """Count an allowed outcome."""
        self.lossy += bool(outcome.lost)
        self.reappeared += outcome.reappeared

    def add(self, other: "CrashPoint") -> None:
        """Take in what another part came to at the same position."""
        for name in ("states", "lossy", "reappeared", "damaged", "findings"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class CrashesTried(msgspec.Struct):
    """What came of the crash states of one configuration.

    `operations` were recorded, `disks` read; `lossy` states had lost acknowledged changes as the configuration allows,
    `most_lost` of them at most; in `reappeared` states a failed change had come back as the rules allow; `damaged`
    states promised nothing and kept nothing; `broken` tapes failed without any crash and were not tried. `by_position`
    has those of the workload itself, by the number of operations before the crash. `enumerable` is how many states the
    rules make of what was recorded; `left_out` how much of what was not even among those, or not recorded.
    """

    target: str
    configuration: Configuration
    operations: int = 0
    states: int = 0
    disks: int = 0
    lossy: int = 0
    most_lost: int = 0
    reappeared: int = 0
    damaged: int = 0
    recoveries: int = 0
    broken: int = 0
    by_position: dict[int, CrashPoint] = {}
    enumerable: int = 0
    left_out: dict[str, int] = {}

    def took(self, outcome: Outcome) -> None:
        """Count an allowed outcome."""
        self.lossy += bool(outcome.lost)
        self.most_lost = max(self.most_lost, outcome.lost)
        self.reappeared += outcome.reappeared

    def add(self, other: "CrashesTried") -> None:
        """Take in what another part of the same configuration came to; positions of one tape are the same in both."""
        for name in (
            "operations",
            "states",
            "disks",
            "lossy",
            "reappeared",
            "damaged",
            "recoveries",
            "broken",
            "enumerable",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.left_out = {
            what: self.left_out.get(what, 0) + other.left_out.get(what, 0)
            for what in sorted({*self.left_out, *other.left_out})
        }
        self.most_lost = max(self.most_lost, other.most_lost)
        for position, point in other.by_position.items():
            if (mine := self.by_position.setdefault(position, point)) is not point:
                mine.add(point)


class SearchEnded(msgspec.Struct, frozen=True):
    """A way of search has ended, after `seconds` of work; `complete` is False where something has cut it short.

    `notes` are lines for people. A shard can't be judged by itself: `needs` is what all shards together have to meet,
    `seen` what this one has met beside its counts. `extent` says whether it has tried all that there is.
    """

    search: str
    target: str
    counts: Counts
    seconds: float
    complete: bool = True
    notes: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    seen: Counts = {}
    extent: Extent = ""


def extent_of(searches: Iterable[SearchEnded]) -> str:
    """SAMPLED, or EXHAUSTIVE where each search that can try all there is has; "" where none of them says it."""
    extents = {ended.extent for ended in searches}
    if not extents or "" in extents:
        return ""
    return "EXHAUSTIVE" if "exhaustive" in extents and "sampled" not in extents else "SAMPLED"


Event = SearchStarted | PointTried | Found | Vacuous | StepsDone | StatesTried | CrashesTried | SearchEnded
Handler = Callable[[Event], None]
