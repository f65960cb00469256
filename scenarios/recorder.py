"""The recorder: every search tells it what happens; it keeps what the verdict needs and passes all of it on.

It also says when it is enough: a time limit, an interrupt, or more findings than anybody will read. A finding is kept
once per check and call; further points that show the same are counted. What a baseline accepts is kept apart: it stops
nothing, and hides nothing that is not accepted.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from scenarios.events import (
    CrashesTried,
    Event,
    Finding,
    Found,
    Handler,
    PointTried,
    SearchEnded,
    SearchStarted,
    Series,
    Vacuous,
)
from scenarios.story import Conditional, Story
from scenarios.target import Target


class Tally:
    """What came of one series of fault points."""

    __slots__ = ("fired", "surfaced", "tried")

    def __init__(self) -> None:
        self.tried = self.fired = self.surfaced = 0


def nothing_accepted(_finding: Finding) -> str:
    """Without a baseline every finding counts."""
    return ""


class Recorder:
    """Keeps findings, tallies and vacuous parts of one run; hands events to its handlers."""

    def __init__(
        self,
        handlers: Iterable[Handler] = (),
        *,
        keep: Callable[[Finding], str] = lambda finding: str(finding.story),
        deadline: float | None = None,
        most_findings: int = 25,
        accepts: Callable[[Finding], str] = nothing_accepted,
        told_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.handlers = tuple(handlers)
        self.keep = keep
        self.deadline = deadline
        self.most_findings = most_findings
        # Why a baseline accepts a finding; "" where it doesn't.
        self.accepts = accepts
        self.accepted: list[Found] = []
        self.findings: list[Found] = []
        self.observations: list[Found] = []
        self.repeats: Counter[tuple[str, str, str, bool]] = Counter()
        # Each search begins anew, so that what it tells does not depend on those before it.
        self._met: set[tuple[str, str, str, bool]] = set()
        self._found_before = 0
        self.tallies: defaultdict[Series, Tally] = defaultdict(Tally)
        self.vacuous: list[Vacuous] = []
        self.crashes: list[CrashesTried] = []
        self.ended: list[SearchEnded] = []
        self.interrupted = False
        self._told_to_stop = told_to_stop

    def tell(self, event: Event) -> None:
        """Take an event in and pass it on."""
        if isinstance(event, SearchStarted):
            self._met.clear()
            self._found_before = len(self.findings)
        elif isinstance(event, PointTried):
            tally = self.tallies[event.series]
            tally.tried += 1
            tally.fired += event.fired
            tally.surfaced += event.surfaced
        elif isinstance(event, Vacuous):
            self.vacuous.append(event)
        elif isinstance(event, CrashesTried):
            self.crashes.append(event)
        elif isinstance(event, SearchEnded):
            self.ended.append(event)
        for handler in self.handlers:
            handler(event)

    def repeats_one(self, finding: Finding) -> bool:
        """Whether the same check failed for the same call already; then it is only counted."""
        key = self._key(finding)
        self.repeats[key] += 1
        if key in self._met:
            return True
        self._met.add(key)
        return False

    def times_seen(self, finding: Finding) -> int:
        """How often the same check failed for the same call."""
        return self.repeats[self._key(finding)]

    def _key(self, finding: Finding) -> tuple[str, str, str, bool]:
        # What is accepted in one configuration must not hide the same in another.
        return finding.search, finding.code, _last_call(finding.story), bool(self.accepts(finding))

    def knows(self, finding: Finding) -> bool:
        """Whether the same story was found already, by the same check."""
        return any(
            (one.finding.code, one.finding.story) == (finding.code, finding.story)
            for one in (*self.findings, *self.observations, *self.accepted)
        )

    def found(self, finding: Finding, target: Target) -> None:
        """Keep a finding: one that was promised not to be, one that a baseline accepts, or an observation.

        One that an earlier search has shown by the very same story is not kept again.
        """
        if self.knows(finding):
            return
        promised = finding.code not in target.unpromised
        found = Found(finding, self.keep(finding), promised, self.accepts(finding) if promised else "")
        counted = self.accepted if found.accepted_because else self.findings
        (counted if promised else self.observations).append(found)
        self.tell(found)

    def enough(self) -> bool:
        """Whether to stop: the time is up, the user said so, or this search has found enough."""
        late = self.deadline is not None and time.monotonic() > self.deadline
        self.interrupted = self.interrupted or self._told_to_stop()
        return late or self.interrupted or len(self.findings) - self._found_before >= self.most_findings

    def take(self, came: Iterable[Event], repeats: Counter[tuple[str, str, str, bool]], target: Target) -> None:
        """Take in what a search has told another recorder; its findings are kept as if they had been found here."""
        for event in came:
            if isinstance(event, Found):
                self.found(event.finding, target)
            else:
                self.tell(event)
        self.repeats.update(repeats)

    @property
    def complete(self) -> bool:
        """Whether every search came to its own end."""
        return bool(self.ended) and not self.interrupted and all(end.complete for end in self.ended)

    def count(self, name: str) -> int:
        """The sum of one count over all searches."""
        return sum(end.counts.get(name, 0) for end in self.ended)


def _last_call(story: Story) -> str:
    """The step that goes wrong: the first one after the last condition, and without any the last one."""
    without = len(story.steps) - 2
    last = max((index for index, step in enumerate(story.steps) if isinstance(step, Conditional)), default=without)
    following = story.steps[last + 1 :]
    return str(following[0]) if following else ""
