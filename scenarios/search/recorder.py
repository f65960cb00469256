"""The recorder: every search reports to it; it keeps what the verdict needs and passes all events on.

It also decides when to stop: at a time limit, an interrupt, or the most findings to report.

One cause is reported once: findings are of one *group* if the same check fails for the same call (whatever its
arguments), in the same way, under the same kind of cause: faults, limits, rivals and system calls that fail are one
kind, but for a rollback without memory, and a cancellation. Further points of a group, of whatever search, are counted,
and their places listed with the finding (`also_at`).
Findings that a baseline accepts are kept separately: they don't stop a search, and don't suppress other findings.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import count
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec

from tornpage.scenarios.execution.finding.difference import ways_of
from tornpage.scenarios.execution.generic_checks.open_connections import CANNOT_ROLL_BACK
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
from tornpage.scenarios.model.fingerprint import call_of, causes_of, decisive_step, is_cancelled
from tornpage.scenarios.model.judging.unpromised import reason_not_promised
from tornpage.scenarios.model.scenario import plainly
from tornpage.scenarios.model.target import Target


def _kinds_of_cause(finding: Finding) -> set[str]:
    """The kinds of cause that keep findings apart: one that a store meets in the world, by and large, is as another.

    A rollback without memory is not: most stores have that one, and it must not hide another. Nor is a cancellation,
    which no ``except Exception`` handles.
    """
    if CANNOT_ROLL_BACK in finding.message:
        return {"no memory to roll back"}
    kinds = {"fault" if cause in _OF_THE_WORLD else cause for cause in causes_of(finding.scenario)}
    return kinds | {"cancelled"} if is_cancelled(finding.scenario) else kinds


class Tally:
    """The counts of one series of fault points; at one that `failed` a check failed, whatever the caller got."""

    __slots__ = ("failed", "fired", "surfaced", "tried")

    def __init__(self) -> None:
        self.tried = self.fired = self.surfaced = self.failed = 0

    @property
    def absorbed(self) -> int:
        """At how many points the fault caused no error, and every check passed."""
        return self.fired - self.surfaced - self.failed

    def add(self, event: PointTried) -> None:
        """Count one point."""
        self.tried += 1
        self.fired += event.fired
        self.surfaced += event.surfaced and not event.is_finding
        self.failed += event.fired and event.is_finding


# The properties that make findings of one search alike; the first word names the kind of likeness, or the search.
Key = tuple[str, ...]
# Where one of a group was seen: the call, the configuration, and the search.
Point = tuple[str, str, str]
# At least so long a finding may be shrunk in a search with a time limit.
_SHRINKS_S: Final = 10.0
_OF_THE_WORLD: Final = frozenset(("fault", "limit", "rival", "system call"))
_GROUP_WORDS: Final = 5
# The beginning of a message: the call in which a process was killed, or that it was between two of them.
_KILLED: Final = re.compile(r"killed (between two calls|in .+?) by [a-z]+(?::[a-z]+)?@", re.DOTALL)
_MOST_CALLS: Final = 5


class DedupKeys(NamedTuple):
    """The keys that make a finding a repetition: one that was met `before` it was shrunk, or `after`, suppresses it.

    `joins` are the keys that count as met from then on.
    """

    before: tuple[Key, ...] = ()
    after: tuple[Key, ...] = ()
    joins: tuple[Key, ...] = ()


class Transcript(NamedTuple):
    """What a part reported to another recorder: events in order, the keys of each finding, and its totals."""

    events: list[Event]
    dedup_keys_of_findings: list[DedupKeys]
    met: frozenset[Key]
    repeats: "Counter[Key]"
    also: "dict[Key, Counter[Point]]"


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
        shorter: int | None = None,
    ) -> None:
        self.handlers = tuple(handlers)
        self.keep = keep
        self.deadline = deadline
        self.most_findings = most_findings
        # Why a baseline accepts a finding; "" if it doesn't.
        self.accepts = accepts
        self.accepted: list[Found] = []
        self.findings: list[Found] = []
        self.observations: list[Found] = []
        self.repeats: Counter[Key] = Counter()
        # By group, where it was seen; and each reported finding with the groups that it stands for.
        self.also: dict[Key, Counter[Point]] = {}
        self._stands_for: list[tuple[Finding, set[Key]]] = []
        # Of each reported finding, in order.
        self.dedup_keys_of_findings: list[DedupKeys] = []
        # Each search starts with its own set, so that its reports do not depend on earlier searches.
        self._met: set[Key] = set()
        self._found_before = self._found_in_part = self._found_before_part = 0
        self.tallies: defaultdict[Series, Tally] = defaultdict(Tally)
        self.vacuous: list[Vacuous] = []
        self.crashes: list[CrashesTried] = []
        self.ended: list[SearchEnded] = []
        self.interrupted = False
        # Whether other processes do the rest of the work.
        self.is_share = False
        self._told_to_stop = told_to_stop
        # The checks that the target does not promise.
        self.unpromised: Any = {}
        self.lost_interrupt: Callable[[], bool] = lambda: False
        # Raises if a finding is not the target's fault.
        self._before_finding = before_finding
        # The most shorter scenarios of a finding.
        self._shorter = shorter

    def tell(self, event: Event) -> None:
        """Record an event and pass it on."""
        if isinstance(event, SearchStarted):
            self._met.clear()
            self._found_before = len(self.findings)
            self.begin_part()
        elif isinstance(event, PointTried):
            self.tallies[event.series].add(event)
        elif isinstance(event, Vacuous):
            if event in self.vacuous:
                # Several parts of a search may report the same.
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
        self._note(finding)
        has_met = key in self._met
        self._met.add(key)
        return has_met

    def has_met(self, *keys: Key) -> bool:
        """Whether any of these dedup_keys_of_findings was met in this search."""
        return any(key in self._met for key in keys)

    def joins(self, *keys: Key) -> None:
        """From now on these dedup_keys_of_findings were met in this search."""
        self._met.update(keys)

    def forget(self, key: Key) -> None:
        """The next finding of this key counts as the first."""
        self._met.discard(key)

    def times_seen(self, finding: Finding) -> int:
        """How often a finding of the same group was seen."""
        return sum(sum(self.also.get(group, Counter()).values()) for group in self._groups_of(finding))

    def also_at(self, finding: Finding) -> tuple[str, ...]:
        """The other places where the finding's group was seen: a line for each call, with its points."""
        by_call: dict[str, Counter[Point]] = {}
        for group in self._groups_of(finding):
            for point, many in self.also.get(group, Counter()).items():
                by_call.setdefault(point[0], Counter())[point] += many
        if len(by_call) < 2 and sum(sum(points.values()) for points in by_call.values()) < 2:
            return ()
        lines = [_line(call, points) for call, points in by_call.items()]
        return (*lines[:_MOST_CALLS], *([f"and {len(lines) - _MOST_CALLS} more calls"] if lines[_MOST_CALLS:] else []))

    def key_of(self, finding: Finding) -> Key:
        """The key of alike findings of one search: its name, and the group."""
        return finding.search, *self.group_of(finding)

    def group_of(self, finding: Finding) -> Key:
        """The key of findings that a reader takes as one."""
        # A finding accepted in one configuration must not hide the same in another.
        accepted = "accepted" if self.accepts(finding) else ""
        causes = _kinds_of_cause(finding)
        ways = ", ".join(sorted(ways_of(finding.sides)))
        # Nor must an observation hide a promised check elsewhere.
        kept_apart = accepted or reason_not_promised(self.unpromised, finding)
        return finding.code, call_of(finding.scenario), ", ".join(sorted(causes)), ways, kept_apart

    def _groups_of(self, finding: Finding) -> list[Key]:
        """The groups that a reported finding stands for, or its own."""
        for one, groups in self._stands_for:
            if one is finding or one == finding:
                return sorted(groups)
        return [self.group_of(finding)]

    def _note(self, finding: Finding) -> None:
        """Record where one of a group was seen."""
        step = decisive_step(finding.scenario)
        call = "" if step is None else plainly(finding.scenario.steps[step])
        if killed := _KILLED.match(finding.message):
            # In a process that makes several calls the plan does not say which of them it stops.
            call = killed[1].removeprefix("in ")
        point = call or "the next call", str(finding.scenario.configuration), finding.search
        self.also.setdefault(self.group_of(finding), Counter())[point] += 1

    def _joins_one(self, finding: Finding, dedup_keys: DedupKeys) -> bool:
        """Whether one of its group was reported already, by whatever search; then it stands for this one, too."""
        seen = {key[1:] for key in (*dedup_keys.before, *dedup_keys.joins) if len(key) == _GROUP_WORDS + 1}
        group = self.group_of(finding)
        for one, groups in self._stands_for:
            # A reproducible finding is reported, even after a similar one that could not be reproduced.
            if group in groups and (one.shows_again or not finding.shows_again):
                groups.update(seen)
                if not seen:
                    self._note(finding)
                return True
        if not seen:
            self._note(finding)
        self._stands_for.append((finding, {group, *seen}))
        return False

    def knows(self, finding: Finding) -> bool:
        """Whether the same scenario was found already, by the same check."""
        return any(
            (one.finding.code, one.finding.scenario) == (finding.code, finding.scenario)
            for one in (*self.findings, *self.observations, *self.accepted)
        )

    def found(self, finding: Finding, target: Target, dedup_keys: DedupKeys | None = None) -> None:
        """Keep a finding: a failure, one that a baseline accepts, or an observation.

        One that an earlier search has shown by the same scenario is not kept again; nor is one above the maximum.
        """
        self._before_finding()
        dedup_keys = dedup_keys or DedupKeys()
        self.joins(*dedup_keys.joins)
        if self._joins_one(finding, dedup_keys) or self.knows(finding):
            return
        promised = not reason_not_promised(target.unpromised, finding)
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
        """Raise `KeyboardInterrupt` again if the store under test has swallowed one."""
        if self.lost_interrupt():
            raise KeyboardInterrupt

    def enough(self) -> bool:
        """Whether to stop: the time limit, an interrupt, or enough findings of this search or this part."""
        late = self.is_late
        self.interrupted = self.interrupted or self._told_to_stop()
        # The point at which a part stops must not depend on the findings of other parts.
        found = max(self._found_before_part, self._found_in_part)
        return late or self.interrupted or found >= self.most_findings

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and monotonic() > self.deadline

    def shrinking(self) -> Callable[[], bool]:
        """Whether to end the shrinking of a finding that was just met, asked before each try.

        It ends at an interrupt, after so many scenarios (`Profile.shorter`), or when the time for it is up: half of the
        time that is left, and at least some seconds, since other findings may come after it, and a store that is slow
        to open takes minutes.
        """
        if (most := self._shorter) is not None:
            asked = count()
            return lambda: next(asked) >= most or self._told_to_stop()
        if self.deadline is None:
            return self._told_to_stop
        now = monotonic()
        end = now + max((self.deadline - now) / 2, _SHRINKS_S)
        return lambda: monotonic() > end or self._told_to_stop()

    def transcript(self) -> Transcript:
        """What was recorded beside the reported events, for a recorder that takes them over."""
        return Transcript([], self.dedup_keys_of_findings, frozenset(self._met), self.repeats, self.also)

    def take(self, transcript: Transcript, target: Target) -> None:
        """Take over what a part has reported to another recorder, as if it had been reported here."""
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
        for group, points in transcript.also.items():
            self.also.setdefault(group, Counter()).update(points)

    @property
    def complete(self) -> bool:
        """Whether every search ran to its own end."""
        return bool(self.ended) and not self.interrupted and all(end.complete for end in self.ended)

    def count(self, name: str) -> int:
        """The sum of one count over all searches."""
        return sum(end.counts.get(name, 0) for end in self.ended)


def _line(call: str, points: "Counter[Point]") -> str:
    """Such as "put(name='a') in wal/FULL and delete/FULL, by sweep and contend: 34 points"."""
    configurations, searches = (" and ".join(dict.fromkeys(point[index] for point in points)) for index in (1, 2))
    total = sum(points.values())
    return f"{call} in {configurations}, by {searches}: {total:,} point{'s' * (total != 1)}"
