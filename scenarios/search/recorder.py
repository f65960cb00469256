"""The recorder: every search tells it what happens; it keeps what the verdict needs and passes all of it on.

It also says when it is enough: a time limit, an interrupt, or more findings than anybody will read. A finding is kept
once per check and call; further points that show the same are counted. What a baseline accepts is kept apart: it stops
nothing, and hides nothing that is not accepted.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from tornpage.scenarios.model.events import (
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
from tornpage.scenarios.model.scenario import Conditional, Interleave, Scenario
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.model.unpromised import reason_for


class Tally:
    """What transcript of one series of fault points."""

    __slots__ = ("fired", "surfaced", "tried")

    def __init__(self) -> None:
        self.tried = self.fired = self.surfaced = 0


# What makes findings of one search alike to a reader; the first word says what kind of likeness.
Key = tuple[str, ...]


class DedupKeys(NamedTuple):
    """What makes a finding a repetition: a key that was met `before` it was shrunk, or `after`, suppresses it.

    `joins` are the keys that count as met from then on.
    """

    before: tuple[Key, ...] = ()
    after: tuple[Key, ...] = ()
    joins: tuple[Key, ...] = ()


class Transcript(NamedTuple):
    """What a part told another recorder: events in order, the keys of each finding among them, and what it met."""

    events: list[Event]
    dedup_keys_of_findings: list[DedupKeys]
    met: frozenset[Key]
    repeats: "Counter[Key]"


def nothing_accepted(_finding: Finding) -> str:
    """Without a baseline every finding counts."""
    return ""


class Recorder:
    """Keeps findings, tallies and vacuous parts of one run; hands events to its handlers."""

    def __init__(
        self,
        handlers: Iterable[Handler] = (),
        *,
        keep: Callable[[Finding], str] = lambda finding: str(finding.scenario),
        deadline: float | None = None,
        most_findings: int = 25,
        accepts: Callable[[Finding], str] = nothing_accepted,
        told_to_stop: Callable[[], bool] = lambda: False,
        before_finding: Callable[[], None] = lambda: None,
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
        self.repeats: Counter[Key] = Counter()
        # Of each finding that was told, in order.
        self.dedup_keys_of_findings: list[DedupKeys] = []
        # Each search begins anew, so that what it tells does not depend on those before it.
        self._met: set[Key] = set()
        self._found_before = self._found_in_part = self._found_before_part = 0
        self.tallies: defaultdict[Series, Tally] = defaultdict(Tally)
        self.vacuous: list[Vacuous] = []
        self.crashes: list[CrashesTried] = []
        self.ended: list[SearchEnded] = []
        self.interrupted = False
        # Whether others do the rest of the work.
        self.is_share = False
        self._told_to_stop = told_to_stop
        self.lost_interrupt: Callable[[], bool] = lambda: False
        # Raises where what was seen is nothing of the target's.
        self._before_finding = before_finding

    def tell(self, event: Event) -> None:
        """Take an event in and pass it on."""
        if isinstance(event, SearchStarted):
            self._met.clear()
            self._found_before = len(self.findings)
            self.begin_part()
        elif isinstance(event, PointTried):
            tally = self.tallies[event.series]
            tally.tried += 1
            tally.fired += event.fired
            tally.surfaced += event.surfaced
        elif isinstance(event, Vacuous):
            if event in self.vacuous:
                # Several parts of a search may say the same.
                return
            self.vacuous.append(event)
        elif isinstance(event, CrashesTried):
            self._tried(event)
        elif isinstance(event, SearchEnded):
            self.ended.append(event)
        for handler in self.handlers:
            handler(event)

    def _tried(self, event: CrashesTried) -> None:
        """Crash states of one configuration, maybe of one part of them."""
        for one in self.crashes:
            if (one.target, one.configuration) == (event.target, event.configuration):
                one.add(event)
                return
        self.crashes.append(msgspec.structs.replace(event, by_position=dict(event.by_position)))

    def begin_part(self) -> None:
        """Begin with the next part of a search."""
        self._found_in_part, self._found_before_part = 0, self._found_here

    @property
    def _found_here(self) -> int:
        """How many findings of this search are kept."""
        return len(self.findings) - self._found_before

    def repeats_one(self, finding: Finding) -> bool:
        """Whether the same check failed for the same call already; then it is only counted."""
        self._before_finding()
        key = self.key_of(finding)
        self.repeats[key] += 1
        has_met = key in self._met
        self._met.add(key)
        return has_met

    def has_met(self, *keys: Key) -> bool:
        """Whether any of these dedup_keys_of_findings was met in this search."""
        return any(key in self._met for key in keys)

    def joins(self, *keys: Key) -> None:
        """From now on these dedup_keys_of_findings were met in this search."""
        self._met.update(keys)

    def times_seen(self, finding: Finding) -> int:
        """How often the same check failed for the same call."""
        return self.repeats[self.key_of(finding)]

    def key_of(self, finding: Finding) -> Key:
        """By what findings are alike: the same check fails for the same call."""
        # What is accepted in one configuration must not hide the same in another.
        accepted = "accepted" if self.accepts(finding) else ""
        return finding.search, finding.code, _last_call(finding.scenario), accepted

    def knows(self, finding: Finding) -> bool:
        """Whether the same scenario was found already, by the same check."""
        return any(
            (one.finding.code, one.finding.scenario) == (finding.code, finding.scenario)
            for one in (*self.findings, *self.observations, *self.accepted)
        )

    def found(self, finding: Finding, target: Target, dedup_keys: DedupKeys | None = None) -> None:
        """Keep a finding: one that was promised not to be, one that a baseline accepts, or an observation.

        One that an earlier search has shown by the very same scenario is not kept again; nor is one more than enough.
        """
        self._before_finding()
        dedup_keys = dedup_keys or DedupKeys()
        self.joins(*dedup_keys.joins)
        if self.knows(finding):
            return
        promised = not reason_for(target.unpromised, finding.code, finding.scenario, finding.search)
        accepted_because = self.accepts(finding) if promised else ""
        if promised and not accepted_because:
            self._found_in_part += 1
            if self._found_here >= self.most_findings:
                return
        found = Found(finding, self.keep(finding), promised, accepted_because)
        counted = self.accepted if found.accepted_because else self.findings
        (counted if promised else self.observations).append(found)
        self.dedup_keys_of_findings.append(dedup_keys)
        self.tell(found)

    def require_going_on(self) -> None:
        """Raise `KeyboardInterrupt` where one was raised already, and has got lost in the store under test."""
        if self.lost_interrupt():
            raise KeyboardInterrupt

    def enough(self) -> bool:
        """Whether to stop: the time is up, the user said so, or this search, or a part of it, has found enough."""
        late = self.is_late
        self.interrupted = self.interrupted or self._told_to_stop()
        # Where in a part to stop must not depend on what other parts have found.
        found = max(self._found_before_part, self._found_in_part)
        return late or self.interrupted or found >= self.most_findings

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def transcript(self) -> Transcript:
        """What was met beside the events that were told, for a recorder that takes them in."""
        return Transcript([], self.dedup_keys_of_findings, frozenset(self._met), self.repeats)

    def take(self, transcript: Transcript, target: Target) -> None:
        """Take in what a part has told another recorder, as if it had been told here."""
        dedup_keys_of_findings = iter(transcript.dedup_keys_of_findings)
        for event in transcript.events:
            if not isinstance(event, Found):
                self.tell(event)
                continue
            dedup_keys = next(dedup_keys_of_findings)
            if self.has_met(*dedup_keys.before):
                continue
            if self.has_met(*dedup_keys.after):
                self.joins(*dedup_keys.joins)
            else:
                self.found(event.finding, target, dedup_keys)
        self.joins(*transcript.met)
        self.repeats.update(transcript.repeats)

    @property
    def complete(self) -> bool:
        """Whether every search transcript to its own end."""
        return bool(self.ended) and not self.interrupted and all(end.complete for end in self.ended)

    def count(self, name: str) -> int:
        """The sum of one count over all searches."""
        return sum(end.counts.get(name, 0) for end in self.ended)


def _last_call(scenario: Scenario) -> str:
    """The step that goes wrong: the first one after the last condition, and without any the last one."""
    without = len(scenario.steps) - 2
    last = max((index for index, step in enumerate(scenario.steps) if isinstance(step, Conditional)), default=without)
    following = scenario.steps[last + 1 :]
    if following and isinstance(following[0], Interleave):
        # Where the switch was is not what tells two findings apart.
        return following[0].names
    return str(following[0]) if following else ""
