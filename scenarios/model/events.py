"""Frozen events that the engine emits while it works. Terminal, JSON and the other reports are handlers of these."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from tornpage.scenarios.model.as_json import plain, printable
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import Outcome
from tornpage.scenarios.model.scenario import Scenario
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Need

Counts = dict[str, int]
# How much of its space a search has tried. "random": it samples an infinite space; "": not stated.
Extent = Literal["exhaustive", "sampled", "random", ""]
# The note on a finding whose scenario does not reproduce it alone.
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
    """A check that failed: the message and its scenario; `shows_again`: a replay of it shows the finding again."""

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
        sides = {name: plain(dict(view)) for name, view in violation.sides.items()}
        note = note if shows_again else NOT_SHOWN
        message = printable(f"{violation.message} ({note})" if note else violation.message)
        return cls(violation.code, message, scenario, sides, search, shows_again)


class SearchStarted(msgspec.Struct, frozen=True):
    """A search begins; `expected` is the number of points or steps, None where it can't be known."""

    search: str
    target: str
    expected: int | None = None


class Place(msgspec.Struct, frozen=True):
    """The place of a point in the workload: configuration, step, call, and the fault or condition in words."""

    configuration: Configuration
    step: int
    call: str
    condition: str


class PointTried(msgspec.Struct, frozen=True):
    """One fault point was tried: whether its fault fired, and the caller got an error, or a check failed."""

    series: Series
    fired: bool
    surfaced: bool
    place: Place
    is_finding: bool = False


class Found(msgspec.Struct, frozen=True):
    """A finding; `replay` is the command line that reproduces it.

    `promised` is False where the target declares, with a reason, that it does not promise this check: the finding is
    then an observation, not a failure. `accepted_because` is the reason from the baseline that accepts it; "": no
    baseline does.
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
    """How many steps, faults, restarts and scenarios the state machine has run so far."""

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
        """Add the counts of another part at the same position."""
        for name in ("states", "lossy", "reappeared", "damaged", "findings"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class CrashesTried(msgspec.Struct):
    """The results of the crash states of one configuration.

    `operations` were recorded and `disks` read. `lossy` states lost acknowledged changes as the configuration allows,
    `most_lost` of them at most. In `reappeared` states a failed change came back, as the rules allow. `damaged` states
    have a configuration that promises nothing, and a damaged store. `broken` tapes failed before any crash and were not
    tried. `by_position` holds the states of the workload itself by the number of operations before the crash.
    `enumerable` is the number of states that the rules derive from the tape; `left_out` counts the states outside it,
    by reason.
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
        """Add the results of another part of the same configuration; both number the tape's positions alike."""
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
    """A search has ended after `seconds` of work; `complete` is False where it was cut short.

    `notes` are lines for people. One shard can't be judged alone: `needs` is what all shards together have to reach,
    `seen` what this shard has reached in addition to its counts. `extent` says whether the search tried its whole
    space.
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
    """SAMPLED, or EXHAUSTIVE if each search that can try its whole space did so; "" if no search states it."""
    extents = {ended.extent for ended in searches}
    if not extents or "" in extents:
        return ""
    return "EXHAUSTIVE" if "exhaustive" in extents and "sampled" not in extents else "SAMPLED"


Event = SearchStarted | PointTried | Found | Vacuous | StepsDone | StatesTried | CrashesTried | SearchEnded
Handler = Callable[[Event], None]
