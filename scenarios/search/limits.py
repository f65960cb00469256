"""The search ``limits``: memory that runs out, a database that may not grow, a statement that is interrupted.

Method. A sweep with other levers: each call starts from its copy in a cold session, and a limit is in force while the
target is at work, and only then. A dry run measures how far the call comes under each (`faults.Limit.reached`); then it
is met at every point up to that:

- ``allocation``: SQLite's 1st, 2nd, 3rd … allocation fails, once or with all after it;
- ``heap``: SQLite may take no more than so many further bytes (``sqlite3_hard_heap_limit64``);
- ``pages``: the database may grow by 0, 1, 2 … pages (``PRAGMA max_page_count``);
- ``steps``: the 1st, 2nd, 3rd … step of SQLite's machine interrupts its statement, once or each from there on.

What fired: an allocation and a step say so themselves; of bytes and pages only an error tells. A point beyond what the
call needed this time (the first use of anything allocates a little more) proves nothing and is not counted as tried. A
lever that hit nothing at all is vacuous.

Not covered: two limits at once; pages and steps of a target that opens its connections by itself.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.injection import limit_of
from tornpage.scenarios.execution.snapshots import held_open, place
from tornpage.scenarios.execution.trial import OPEN, Trial
from tornpage.scenarios.model.checks import Violation
from tornpage.scenarios.model.events import PointTried, Series
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Limit, LimitKind
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Need, Part
from tornpage.scenarios.search.sweep import Start, Sweep, parts_of_calls

_EFFECTS: Final[dict[LimitKind, str]] = {
    "allocation": "NOMEM",
    "heap": "NOMEM",
    "pages": "FULL",
    "steps": "INTERRUPT",
}
# Statistics, which a heap limit rests on, are off while single allocations are counted.
_EXACT: Final[tuple[LimitKind, ...]] = ("allocation",)
_COARSE: Final[tuple[LimitKind, ...]] = ("heap", "pages", "steps")
_KINDS: Final = {"allocations": _EXACT, "others": _COARSE}
_ON_CONNECTIONS: Final = frozenset(("pages", "steps"))
_HEAP_STEP_BYTES: Final = 512


class LimitPoint(msgspec.Struct, frozen=True):
    """One limit that one call of the workload meets."""

    start: Start
    limit: Limit

    @property
    def series(self) -> Series:
        """The row of the table that it counts in."""
        return Series(self.limit.kind, "any", "before", _EFFECTS[self.limit.kind])


class Limits(Sweep):
    """Lets each call meet each limit, at up to `most_points_per_call` points, evenly over the kinds of limit."""

    name = "limits"

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many points of a call."""
        return {"most_points_per_call": plan.profile.limit_points}

    def parts(self) -> Iterator[Part]:
        """A few calls in each configuration, where allocations are counted and where they are not."""
        for configuration in self.configurations:
            for kinds in _KINDS:
                yield from parts_of_calls(self.target, configuration, kinds)

    def search(self, part: Part) -> bool:
        """Try every point of the part's calls."""
        configuration, kinds = part.configuration, _KINDS[part.kind]
        try:
            with _counting(kinds):
                for start in self.starts(configuration, part):
                    for point in self.points_under(configuration, start, self._kinds_for(kinds)):
                        if self.enough():
                            return False
                        self._try(configuration, point)
        except faults.AllocatorUnavailableError as error:
            self.vacuous(f"no single allocation can be failed at {configuration}: {error}")
        return True

    def needs(self) -> Iterator[Need]:
        """Each limit was met."""
        for kind in self._kinds_for((*_EXACT, *_COARSE)):
            yield Need(_met(kind), f"no call ever met the limit on {kind}")

    def _kinds_for(self, kinds: tuple[LimitKind, ...]) -> tuple[LimitKind, ...]:
        reachable = "statement" in self.target.depths
        return tuple(kind for kind in kinds if reachable or kind not in _ON_CONNECTIONS)

    # -- what to try ---------------------------------------------------------------------------------------

    def points_under(
        self, configuration: Configuration, start: Start, kinds: tuple[LimitKind, ...]
    ) -> Iterator[LimitPoint]:
        """The points of one call under some kinds of limit, sampled where there are too many."""
        for kind in kinds:
            points = limits_up_to(kind, self._measure(configuration, start, kind))
            if self.most_points_per_call is not None:
                most = max(self.most_points_per_call // len(_EFFECTS), 1)
                chosen = self.generator.sample(range(len(points)), min(most, len(points)))
                points = [points[index] for index in sorted(chosen)]
            yield from (LimitPoint(start, limit) for limit in points)

    def _measure(self, configuration: Configuration, start: Start, kind: LimitKind) -> int:
        """How far the call comes in the unit of a limit, in a cold session."""
        with self._begun(configuration, start) as trial:
            limit = limit_of(trial, kind, None)
            with trial.limited(limit):
                trial.call(start.action, start.after, start.stages)
        return limit.reached

    # -- one point -----------------------------------------------------------------------------------------

    def _try(self, configuration: Configuration, point: LimitPoint) -> None:
        """Try one point in a cold session and tell the recorder; a finding is recorded, not raised."""
        self.counts["points"] += 1
        is_finding = False
        try:
            met = self._meet(configuration, point)
            fired, surfaced = bool(met.fired), bool(met.surfaced)
        except Violation as violation:
            fired = surfaced = is_finding = True
            self.counts["findings"] += 1
            if held_open(self._home):
                # A leftover would spoil every later look, so nobody goes there any more.
                self._home = next(self._homes)
                self.counts["leaks"] += 1
            self.found(violation, self.scenario(configuration, point.start, point.limit))
        else:
            if met.certain and not fired:
                return
        self.counts["tried"] += 1
        self.counts["fired"] += fired
        self.counts["limits"] += fired
        self.counts["surfaced"] += surfaced
        self.seen[_met(point.limit.kind)] += fired
        where = point.start.located(configuration, str(point.limit))
        self.recorder.tell(PointTried(point.series, fired, surfaced, where, is_finding))

    def _meet(self, configuration: Configuration, point: LimitPoint) -> faults.Limit:
        """Make the call under the limit and look at everything; raises `Violation`."""
        start, step = point.start, point.limit
        with self._begun(configuration, start) as trial:
            limit = limit_of(trial, step.kind, step.at, sticky=step.sticky)
            with trial.limited(limit):
                answer = trial.call(start.action, start.after, start.stages)
                trial.heard_under(start.action, answer, limit, step, refused=start.is_refused)
                files = trial.crash_copy()
            # SQLite checks the files themselves in the copy, and what the session makes of them at the end.
            trial.look(integrity=False)
            trial.look_after_crash(files, self.reopened_at(configuration))
            self.judge_answer(trial, start, answer)
            trial.heartbeat()
            trial.require_open_errors()
        return limit

    @contextlib.contextmanager
    def _begun(self, configuration: Configuration, start: Start) -> Iterator[Trial]:
        """A cold session just before a call."""
        place(start.files, self._home)
        with Trial(self.target, configuration, self._home, start.before) as trial:
            trial.at_step(start.step)
            if "statement" in self.target.depths:
                trial.watch_statements()
            if start.action != OPEN:
                trial.open()
            yield trial


def _met(kind: LimitKind) -> str:
    """The count of limits of a kind that were met."""
    return f"limit on {kind}"


def _counting(kinds: tuple[LimitKind, ...]) -> AbstractContextManager[object]:
    return faults.exact_allocations() if "allocation" in kinds else contextlib.nullcontext()


def limits_up_to(kind: LimitKind, reached: int) -> list[Limit]:
    """Every limit of one kind that a call meets which comes so far without one."""
    if kind == "heap":
        return [Limit(kind, extra_bytes) for extra_bytes in range(0, reached, _HEAP_STEP_BYTES)]
    if kind == "pages":
        return [Limit(kind, extra_pages) for extra_pages in range(reached)]
    return [Limit(kind, at, sticky) for at in range(1, reached + 1) for sticky in (False, True)]
