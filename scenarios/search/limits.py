"""The search ``limits``: memory that runs out, a database that may not grow, a statement that is interrupted.

Method. A sweep with limits instead of faults: each call starts from its copy in a cold session, and a limit is in force
while the target runs, and only then. A dry run measures how far the call gets under each (`faults.Limit.reached`); then
each point up to that is tried:

- ``allocation``: SQLite's 1st, 2nd, 3rd … allocation fails, once or with all after it;
- ``heap``: SQLite may take no more than so many further bytes (``sqlite3_hard_heap_limit64``);
- ``pages``: the database may grow by 0, 1, 2 … pages (``PRAGMA max_page_count``);
- ``steps``: the 1st, 2nd, 3rd … step of SQLite's virtual machine interrupts its statement, once or from there on;
- ``awaits``: the call of an asynchronous store is cancelled at its 1st, 2nd, 3rd … await.

Allocations and steps report when they fire; for bytes and pages only an error shows it. A point beyond what the call
needed this time (the first use of anything allocates a little more) proves nothing and is not counted as tried. A limit
that never took effect is vacuous.

Not covered: two limits at once; pages and steps of a target that opens its connections by itself.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

from tornpage import faults
from tornpage.faults.reach.library import Library
from tornpage.scenarios.execution.injection import limit_of
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.events import Series
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import LIMIT_EFFECTS, Limit, LimitKind
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Need, Part
from tornpage.scenarios.search.points import Met, Point, PointSearch
from tornpage.scenarios.search.workload import Start

# Statistics, which a heap limit rests on, are off while single allocations are counted.
_EXACT: Final[tuple[LimitKind, ...]] = ("allocation",)
_COARSE: Final[tuple[LimitKind, ...]] = ("heap", "pages", "steps")
# Only asynchronous stores can meet it, so it need not take effect.
_PATIENCE: Final[tuple[LimitKind, ...]] = ("awaits",)
_KINDS: Final = {"allocations": _EXACT, "others": (*_COARSE, *_PATIENCE)}
_ON_CONNECTIONS: Final = frozenset(("pages", "steps"))
_IN_MEMORY: Final = frozenset(("allocation", "heap"))
_HEAP_STEP_BYTES: Final = 512


class Limits(PointSearch):
    """Lets each call meet each limit, at up to `most_points_per_call` points, evenly over the kinds of limit."""

    name = "limits"

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many points of a call; how far it gets is measured in the unit of each limit."""
        return {"most_points_per_call": plan.profile.limit_points, "depths": ("vfs",)}

    def parts(self) -> Iterator[Part]:
        """A few calls in each configuration, separately with and without counted allocations."""
        for configuration in self.configurations:
            for kinds in _KINDS:
                yield from self.parts_of_calls(configuration, kinds)

    def search(self, part: Part) -> bool:
        """Try every point of the part's calls."""
        kinds = self._kinds_for(_KINDS[part.kind])
        if lacking := [kind for kind in _KINDS[part.kind] if kind in _IN_MEMORY and kind not in kinds]:
            self.note(f"{' and '.join(lacking)}: out of reach in {self._library.name}'s SQLite")
        if not kinds:
            return True
        try:
            with _counting(kinds):
                return super().search(part)
        except faults.AllocatorUnavailableError as error:
            self.vacuous(f"no single allocation can be failed at {part.configuration}: {error}")
            return True

    def points(self, part: Part) -> Iterator[Point]:
        """The points of a part's calls, under the limits that the part is about."""
        kinds = self._kinds_for(_KINDS[part.kind])
        for start in self.starts(part.configuration, part):
            yield from self.points_under(part.configuration, start, kinds)

    def needs(self) -> Iterator[Need]:
        """Some limit was met."""
        yield Need("limits", "no call ever met a limit")

    def kinds_never_met(self) -> list[str]:
        """Limits that no call met."""
        return [kind for kind in self._kinds_for((*_EXACT, *_COARSE)) if not self.total.seen[_met(kind)]]

    def is_met(self, kind: str) -> bool:
        """Whether the limit was met."""
        return bool(self.seen[_met(kind)])

    def never_met(self, kind: str) -> str:
        """Which limit it is."""
        return f"the limit on {kind} was met by no call"

    def further_points(self, configuration: Configuration, kind: str) -> Iterator[Point]:
        """Every limit of that kind in one configuration."""
        outer, self.most_points_per_call = self.most_points_per_call, None
        kinds: tuple[LimitKind, ...] = tuple(one for one in (*_EXACT, *_COARSE) if one == kind)
        try:
            with _counting(kinds):
                for start in self.starts(configuration):
                    yield from self.points_under(configuration, start, kinds)
        except faults.AllocatorUnavailableError:
            return
        finally:
            self.most_points_per_call = outer

    def _kinds_for(self, kinds: tuple[LimitKind, ...]) -> tuple[LimitKind, ...]:
        """The supported limits: some only on connections that we open, some only in some libraries."""
        out = set() if self._reaches_connections else set(_ON_CONNECTIONS)
        if not faults.can_fail_allocations(self._library):
            out.add("allocation")
        if not faults.can_limit_heap(self._library):
            out.add("heap")
        if "asyncio" not in sys.modules:
            out.add("awaits")
        return tuple(kind for kind in kinds if kind not in out)

    @functools.cached_property
    def _library(self) -> Library:
        """The SQLite library that the target's connections use."""
        directory = next(self._homes)
        directory.mkdir(parents=True, exist_ok=True)
        trial = Trial(self.target, self.configurations[0], directory, {})
        with faults.install():
            # A target that can't be opened, or closed, is reported where the search opens it.
            with contextlib.suppress(Exception):
                trial.open()
            library = trial.library
            with contextlib.suppress(Violation):
                trial.close()
        return library

    # -- points ----------------------------------------------------------------------------------------------

    def points_under(self, configuration: Configuration, start: Start, kinds: tuple[LimitKind, ...]) -> Iterator[Point]:
        """The points of one call under some kinds of limit, sampled if there are too many."""
        for kind in kinds:
            if kind in _PATIENCE and start.action in (OPEN, CLOSE):
                # Opening and closing a store are not cancelled.
                continue
            limits = limits_up_to(kind, self._measure(configuration, start, kind))
            self.counts["limits_in_all"] += len(limits) if self._most is None else 0
            if (of_all := self.at_most) is not None:
                most = max(of_all // len(LIMIT_EFFECTS), 1)
                chosen = self.generator.sample(range(len(limits)), min(most, len(limits)))
                self.leave_out(len(limits) - len(chosen))
                limits = [limits[index] for index in sorted(chosen)]
            series = Series(kind, "any", "before", LIMIT_EFFECTS[kind])
            yield from (Point(start, limit, series) for limit in limits)

    def _measure(self, configuration: Configuration, start: Start, kind: LimitKind) -> int:
        """How far the call comes in the unit of a limit, in a cold session."""
        with self.begun(configuration, start, watched=self._reaches_connections) as trial:
            limit = limit_of(trial, kind, None)
            with trial.limited(limit):
                trial.call(start.action, start.after, start.stages)
        return limit.reached

    # -- one point -----------------------------------------------------------------------------------------

    @property
    def _reaches_connections(self) -> bool:
        return "statement" in self.target.depths

    def is_watched(self, point: Point) -> bool:
        """Limits on pages and steps are set on connections."""
        del point
        return self._reaches_connections

    def took(self, configuration: Configuration, point: Point, met: Met) -> bool:
        """Count a point; one beyond what the call needed this time does not count."""
        self.counts["points"] += 1
        if not met.is_finding and met.condition.certain and not met.fired:
            return False
        self.counts["limits"] += met.fired
        self.seen[_met(point.series.kind)] += met.fired
        return super().took(configuration, point, met)


def _met(kind: str) -> str:
    """The count of limits of a kind that were met."""
    return f"limit on {kind}"


def _counting(kinds: tuple[LimitKind, ...]) -> AbstractContextManager[object]:
    return faults.exact_allocations() if "allocation" in kinds else contextlib.nullcontext()


def limits_up_to(kind: LimitKind, reached: int) -> list[Limit]:
    """Every limit of one kind that a call meets, given how far it gets without one."""
    if kind == "heap":
        return [Limit(kind, extra_bytes) for extra_bytes in range(0, reached, _HEAP_STEP_BYTES)]
    if kind == "pages":
        return [Limit(kind, extra_pages) for extra_pages in range(reached)]
    if kind == "awaits":
        return [Limit(kind, at) for at in range(1, reached + 1)]
    return [Limit(kind, at, sticky) for at in range(1, reached + 1) for sticky in (False, True)]
