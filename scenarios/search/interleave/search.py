"""The search ``interleave``: two callers of one store, switched at every lock, judged against the serial orders.

Method. The workload is played once; at each of its states two of its calls are made by two sessions on one directory:
the first up to a switch point, the second to its end, then the rest of the first. Every switch point of the first is
tried, which is every schedule with one preemption, and a seeded sample in which the second is stopped as well, or its
process is killed there; and a process opens the store (`openings`). Then come states at another pace of the clock, and
those in which a call works for the last time (`paces`). Ordered pairs in which both calls change the same
row come first, then those in which one changes something. The result has to be one of the serial results
(`execution.interleave.serial`).

The target declares the kinds of callers, `callers`: "processes", "threads" (each with a store of its own) or "shared"
(two threads on one store); () is a store for one caller, which is not tried. A target without a declaration is tried in
two processes, unless it can only serve one caller: it can't be opened twice, or an open second session does not see
what the first has committed, or two calls of two sessions conflict one after the other, too (but for a transaction that
one of them leaves open). Such a store keeps its state, or a part of it, in memory, and is correct as long as it is the
only writer of the file. The search reports this in a note, not as a finding.

Not covered: time that passes while a caller is stopped, closing during a call, more than two callers, a kill in a call
of many commits, and faults in the schedule (fuzz has those before and after it).
"""

import contextlib
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, product
from pathlib import Path
from random import Random
from typing import Any, Final

from tornpage.faults.contention.idle import real_monotonic
from tornpage.faults.contention.turns import Ended
from tornpage.scenarios.execution.finding.shrink import shown
from tornpage.scenarios.execution.interleave.schedule import OpenedOnceError, OwnSessionError, Played, Stage
from tornpage.scenarios.execution.interleave.serial import Run, Serial, State
from tornpage.scenarios.execution.interleave.sessions import pair, shared_processes
from tornpage.scenarios.execution.session_in_use import OPEN, HangsError
from tornpage.scenarios.execution.snapshots import held_open, siblings
from tornpage.scenarios.model.events import Finding, Place, PointTried, SearchEnded, Series
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import CALLERS, Call, Callers, ClockPace, Interleave, Scenario, Step
from tornpage.scenarios.model.target import Action, Configuration, Target
from tornpage.scenarios.model.work import Need, Part, cut
from tornpage.scenarios.search.base import Search
from tornpage.scenarios.search.forecast import Forecast
from tornpage.scenarios.search.interleave.both_stopped import BothStopped
from tornpage.scenarios.search.interleave.by_nature import ByNature, OneCallerError
from tornpage.scenarios.search.interleave.few_points import FewPoints
from tornpage.scenarios.search.interleave.openings import Openings, no_files
from tornpage.scenarios.search.interleave.other_arguments import OtherArguments
from tornpage.scenarios.search.interleave.paces import Paces
from tornpage.scenarios.search.interleave.pairs import Pairs
from tornpage.scenarios.search.interleave.states import SCHEDULES_A_STATE, States
from tornpage.scenarios.search.interleave.used_sessions import UsedSessions
from tornpage.scenarios.search.recorder import DedupKeys, Recorder

# The prefix of a note on why two callers were not tried.
NOT_TRIED: Final = "not tried: "
_NO_PAIR: Final = (
    "in no state of the workload does a call that two callers may make change anything; give it such a call"
)
_STATES_A_PART: Final = 8
# The states of a short workload, and those beyond it.
_STATES_KEPT: Final = 16
# With a budget, the schedules of a pair of calls that stop both.
_BOTH_STOPPED: Final = 2
# With a budget, those of a call that would be in none.
_FEW_POINTS: Final = 3
_NOT_ENDED: Final = Ended(0, None)
# The prefixes of counts: the calls that two callers have made, and those that the store refused where they came up.
_MADE, _REFUSED = "made: ", "refused: "
# So often may calls of one name wait for another caller (the first as long as --call-timeout) before all are left out.
_MOST_HANGS: Final = 20
# With a budget, the states at another pace of the clock.
_STATES_A_PACE: Final = 4
# With a budget, the number of calls at one state that are tried alone to see what they change.
_CALLS_A_STATE: Final = 8


@dataclass
class _Steps:
    """The schedules of one state that are still to come; `points` are those of the pair of calls tried last."""

    schedules: Generator[Interleave, None, None]
    points: tuple[tuple[int, int], tuple[int, ...]] = ((0, 0), ())
    have_ended: bool = False


class Interleavings(Search):
    """Lets two callers of one target run concurrently; reports findings to a `Recorder`."""

    name = "interleave"

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        seed: int = 0,
        most_schedules: int | None = None,
        preemptions: int = 2,
        callers: tuple[Callers, ...] | None = None,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.most_schedules = most_schedules
        self.preemptions = preemptions
        declared: Any = self.target.callers
        self.is_declared = callers is not None or declared is not None
        chosen = callers or declared
        self.callers: tuple[Callers, ...] = ("processes",) if chosen is None else chosen
        self._homes = siblings(directory / "two-callers")
        self._home = next(self._homes)
        # The calls made one after the other are the same for each kind of callers.
        self._serials: deque[Serial] = deque(maxlen=_STATES_KEPT)
        # The switch points of both calls, and those of the first whose return is one, too.
        self._points: tuple[int, int] = (0, 0)
        self._returns: tuple[int, ...] = ()
        self._both = BothStopped(self.generator)
        draw = Random(f"{seed} {self.name} in order")  # noqa: S311 - the same for each part
        self._by_nature = ByNature(self.target, directory, self._left_out, draw, self._leave_if_held)
        # How often a call of this part has waited for another caller, by its name.
        self._hangs = Counter[str]()

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """The number of schedules and preemptions, and the kinds of callers that the user gives."""
        return {
            "most_schedules": plan.profile.schedules,
            "preemptions": plan.preemptions,
            "callers": plan.callers,
        }

    def parts(self) -> Iterator[Part]:
        """A few states of the workload, in each configuration and for each kind of callers."""
        for configuration in self.configurations:
            for callers in self.callers:
                yield from cut(configuration, len(self.target.workload()) + 1, _STATES_A_PART, callers)

    def company(self) -> AbstractContextManager[object]:
        """One process for all that need a second one."""
        return shared_processes()

    def needs(self) -> Iterator[Need]:
        """At least one schedule, if there was a pair of calls."""
        yield Need("schedules", "no schedule of two callers was tried", given=("pairs",))

    def ended(self, *, complete: bool) -> SearchEnded:
        """How it ended; a store that declares one caller is not tried, and a note says so."""
        if not self.callers:
            self.seen = self.total.seen
            self.note(f"{NOT_TRIED}{self.target.name} is declared for one caller only: callers = ()")
        elif complete and self.shard is None and not self._is_explained():
            self.seen = self.total.seen
            self.note(f"{NOT_TRIED}{_NO_PAIR}")
        elif complete and self.shard is None and self.total.counts["pairs"]:
            self.seen = self.total.seen
            self._name_the_others()
        return super().ended(complete=complete)

    def _name_the_others(self) -> None:
        """Note the calls of the workload that no two callers have made."""
        names = dict.fromkeys(action.name for action in self.target.workload())
        others = [name for name in names if name not in self._left_out and not self.seen[_MADE + name]]
        for reason, group in (
            ("refused at each state that was tried", [name for name in others if self.seen[_REFUSED + name]]),
            ("no room; give it more --schedules", [name for name in others if not self.seen[_REFUSED + name]]),
        ):
            if group:
                self.note(f"not made by two callers ({reason}): {', '.join(group)}")

    def _is_explained(self) -> bool:
        """Whether there was a pair of calls, or it is said why there was none."""
        counts = self.total.counts
        return bool(counts["pairs"] or counts["findings"]) or any(NOT_TRIED in one for one in self.total.seen)

    def search(self, part: Part) -> bool:
        """Try the pairs of calls at every state of the part."""
        callers: Callers = next(one for one in CALLERS if one == part.kind)
        with self.company(), pair(self.target, callers, home := self._free_home()) as sessions:
            stage = Stage(sessions, home, part.configuration)
            try:
                return self._search(part, stage, callers)
            except (OpenedOnceError, OneCallerError) as error:
                if self.is_declared:
                    raise
                self._one_caller(str(error))
                # What was tried before says nothing of such a store.
                self.counts["pairs"] = self.counts["schedules"] = 0
                return True

    def _search(self, part: Part, stage: Stage, callers: Callers) -> bool:
        self._both = BothStopped(self.generator)
        self._hangs.clear()
        openings, few = self._openings(part), self._few_points(part)
        pairs, used, waiting, rest = Pairs(self.generator), UsedSessions(), list[tuple[Serial, _Steps]](), 0
        for state in self._states(part):
            serial = self._serial(part.configuration, stage.home, state)
            calls = self._calls_worth_making(serial)
            if not self.is_declared:
                self._by_nature.require_two(stage, serial, calls)
            steps = _Steps(self._steps(pairs, serial, calls, callers))
            left = self._play(stage, serial, steps, self._budget)
            if left is None:
                return False
            rest += left
            waiting.append((serial, steps))
            further = [used.of(serial, calls, callers), self._next_call(serial, calls, few, callers)]
            further += [openings.at(serial, calls)] if openings is not None else []
            if not self._all_tried(stage, serial, chain.from_iterable(further)):
                return False
        # What some states have left of their share goes to the others.
        for serial, steps in waiting:
            if rest <= 0 or steps.have_ended:
                continue
            left = self._play(stage, serial, steps, rest)
            if left is None:
                return False
            rest = left
        self.left_out(sum(not steps.have_ended for _, steps in waiting))
        if not self._search_at_other_paces(part, stage, pairs):
            return False
        if openings is None or part.first:
            return True
        serial = Serial(self.target, part.configuration, stage.home, no_files(self.target))
        return self._all_tried(stage, serial, openings.on_no_files(serial, self._first_calls(serial)))

    def _search_at_other_paces(self, part: Part, stage: Stage, pairs: Pairs) -> bool:
        """The same, with a share of their own; False if the search has to end."""
        callers: Callers = next(one for one in CALLERS if one == part.kind)
        for state, changed in self._states_at_other_paces(part):
            serial = self._serial(part.configuration, stage.home, state)
            calls = self._calls_worth_making(serial)
            promising = [(changed, changed)] if changed in calls else []
            steps = _Steps(self._steps(pairs, serial, calls, callers, promising))
            if self._play(stage, serial, steps, self._budget) is None:
                return False
            self.left_out(not steps.have_ended)
        return True

    def _openings(self, part: Part) -> Openings | None:
        """The schedules in which a caller opens the store; None if that is not tried."""
        return Openings(self._few_points(part)) if part.kind == "processes" else None

    def _few_points(self, part: Part) -> FewPoints:
        draw = Random(f"{self.seed} {self.name} few {part}")  # noqa: S311 - the same for each part
        return FewPoints(draw, lambda: self._points[0], self.left_out, limited=self.most_schedules is not None)

    def _next_call(self, serial: Serial, calls: list[Action], few: FewPoints, callers: Callers) -> Iterator[Interleave]:
        """Those of the workload's next call and itself, or one that changes something, if it was in none before."""
        rest = self.target.workload()[serial.state.step - 1 :]
        action = next((one for one in calls if rest and one.name == rest[0].name), None)
        if not few.limited or action is None or self.seen[_MADE + action.name]:
            return
        others = (one for one in (action, *calls) if serial.run(one).view != serial.state.view)
        for other in islice(others, 1):
            yield from few.of(Interleave(action, other, callers=callers), _FEW_POINTS)

    def _first_calls(self, serial: Serial) -> Iterator[Action]:
        """The calls of the workload that two callers may make, and that the store accepts here."""
        calls = (action for action in self.target.workload() if action.name not in self._left_out)
        return (action for action in calls if self._is_done(serial, action))

    def _all_tried(self, stage: Stage, serial: Serial, steps: Iterable[Interleave]) -> bool:
        """Try these schedules; False if the search has to end."""
        for step in steps:
            if self.enough():
                return False
            self._try(stage, serial, step)
        return True

    def _free_home(self) -> Path:
        """The directory of the part before, unless that has left files open there."""
        if held_open(self._home):
            self._home = next(self._homes)
        return self._home

    def _serial(self, configuration: Configuration, home: Path, state: State) -> Serial:
        """The calls from a state; those of a part with another kind of callers, if the same calls have led to it."""
        here = configuration, home, state.before, state.view
        for known in self._serials:
            if (known.configuration, known.home, known.state.before, known.state.view) == here:
                return known
        self._serials.append(Serial(self.target, configuration, home, state))
        return self._serials[-1]

    def _steps(
        self,
        pairs: Pairs,
        serial: Serial,
        calls: list[Action],
        callers: Callers,
        promising: Sequence[tuple[Action, Action]] = (),
    ) -> Generator[Interleave, None, None]:
        """The schedules at one state, those of the promising pairs first."""
        others = OtherArguments(self.target, serial, self._is_done)
        varied = others.of_another_call(calls)
        limited, reads = self._budget is not None, callers == "shared"
        ranked = pairs.of(serial, calls, varied, made_in_order=limited, reads=reads)
        for first, second in (*promising, *(one for one in ranked if one not in promising)):
            if self._waits_in_order(serial, first, second):
                continue
            self.counts["pairs"] += 1
            pairs.are_tried(first, second)
            yield from self._schedules(first, second, callers)
        for action, beat in others.of_the_beat(calls):
            self.counts["pairs"] += 1
            yield from self._schedules(action, beat, callers)

    def _play(self, stage: Stage, serial: Serial, steps: "_Steps", budget: int | None) -> int | None:
        """Try schedules until the budget is used up; returns what is left of it, None if the search has to end."""
        self._points, self._returns = steps.points
        while (budget is None or budget > 0) and (step := next(steps.schedules, None)):
            if self.enough():
                return None
            self._try(stage, serial, step)
            if budget is not None:
                # The one return of a pair takes no other pair's place.
                budget -= step.switch >= 0 and not step.killed
        steps.points = self._points, self._returns
        steps.have_ended = budget is None or budget > 0
        return budget or 0

    def forecast(self, part: Part) -> Forecast:
        """About how many schedules a part has, and how long one takes: each call is made twice, one after the other."""
        callers: Callers = next(one for one in CALLERS if one == part.kind)
        used, number, seconds, before = UsedSessions(), 0, 0.0, self.counts["tried"]
        openings = self._openings(part)
        with self.company(), pair(self.target, callers, home := next(self._homes)) as sessions:
            stage = Stage(sessions, home, part.configuration)
            paced = (state for state, _ in self._states_at_other_paces(part))
            for state in chain(self._states(part), paced):
                serial = Serial(self.target, part.configuration, home, state)
                calls = self._calls_worth_making(serial)
                others = OtherArguments(self.target, serial, self._is_done)
                varied = others.of_another_call(calls)
                pairs, points = Pairs(self.generator).of(serial, calls, varied, reads=callers == "shared"), {}
                beside = list(others.of_the_beat(calls))
                pairs += beside
                beside += varied
                number += len(list(used.of(serial, calls, callers)))
                # Real time: a search runs in virtual time.
                began = real_monotonic()
                for one, other in (*((call, call) for call in calls), *beside) if pairs else ():
                    try:
                        self._try(stage, serial, Interleave(one, other, callers=callers))
                    except (OpenedOnceError, OneCallerError):
                        # The search says so.
                        return Forecast(0, 0.0)
                    points[str(one), str(other)] = *self._points, len(self._returns)
                seconds += real_monotonic() - began
                for first, second in pairs:
                    itself = points.get((str(first), str(second)))
                    at, _, returns = itself or points[str(first), str(first)]
                    back = max((itself or points[str(second), str(second)])[1] - 1, 0)
                    stops = (self.preemptions > 1) + self._may_be_killed(second, callers)
                    number += 1 + at + returns + at * back * stops
                if openings is not None:
                    number += openings.number(serial, calls, partial(self._points_of, stage, serial))
            if openings is not None and part.first == 0:
                serial = Serial(self.target, part.configuration, home, no_files(self.target))
                step = next(openings.on_no_files(serial, self._first_calls(serial)), None)
                number += 0 if step is None else 1 + self._points_of(stage, serial, step)
        return Forecast(number, seconds / max(self.counts["tried"] - before, 1))

    def _points_of(self, stage: Stage, serial: Serial, step: Interleave) -> int:
        """The number of switch points of the first call."""
        self._try(stage, serial, step)
        return self._points[0]

    @property
    def _budget(self) -> int | None:
        """How many schedules one state gets."""
        if self.most_schedules is None:
            return None
        share = max(SCHEDULES_A_STATE, self.most_schedules // (len(self.target.workload()) + 1))
        return min(share, self.most_schedules)

    def _one_caller(self, why: str) -> None:
        self.note(
            f"{NOT_TRIED}{why}; it does not declare `callers`, and so is treated as a store for one caller: declare "
            'callers = ("processes",) to test it, or callers = () for one caller'
        )

    # -- points ----------------------------------------------------------------------------------------------

    def _states(self, part: Part) -> Iterator[State]:
        """The states of the workload that fall to the part, each once, and not more than the budget has room for."""
        states = States(self.target, self.directory / "dry", self._left_out, self.most_schedules)
        draw = Random(f"{self.seed} {self.name} {part.configuration} {part.kind}")  # noqa: S311 - the same for each part
        names = Random(f"{self.seed} {self.name} names")  # noqa: S311 - the same for each part
        turn = self.configurations.index(part.configuration) * len(self.callers)
        turn += next(number for number, kind in enumerate(self.callers) if kind == part.kind)
        chosen, others = states.chosen(draw, names, turn)
        self.left_out(len(others))
        yield from states.before(chosen, part)
        # The draw may have met only states in which no call changes anything.
        if others and any(one in part for one in chosen):
            with contextlib.closing(states.before(others, part)) as more:
                while not self.counts["pairs"] and (state := next(more, None)):
                    yield state

    def _states_at_other_paces(self, part: Part) -> Iterator[tuple[State, Action]]:
        if not part.first and part.configuration == self.configurations[0]:
            paces = Paces(self.target, self.directory / "dry", part.configuration, self._left_out)
            yield from paces.states(None if self.most_schedules is None else _STATES_A_PACE)
            yield from paces.last_ones()

    def _calls_worth_making(self, serial: Serial) -> list[Action]:
        """Calls that the store accepts here: the next ones of the workload first, and those that change something."""
        workload = list(self.target.workload())
        step = serial.state.step - 1
        ordered = [*workload[step:], *reversed(workload[:step])]
        found: list[Action] = []
        refused: list[Action] = []
        changing = 0
        for action in ordered:
            if action in (*found, *refused) or action.name in self._left_out or self._has_waited(action):
                continue
            run = self._alone(serial, action)
            if run is None or run.said.kind == "raised":
                self.seen[_REFUSED + action.name] += 1
                refused.append(action)
                continue
            found.append(action)
            changing += run.view != serial.state.view
            if self.most_schedules is not None and (changing >= _CALLS_A_STATE or len(found) >= 2 * _CALLS_A_STATE):
                self.left_out(1)
                break
        return found

    def _alone(self, serial: Serial, action: Action) -> Run | None:
        """The result of a call alone; None if even that violates a check, which is a separate finding."""
        try:
            return serial.run(action)
        except Violation as violation:
            self.counts["findings"] += 1
            steps = (*self._steps_to(serial.state), Call(action))
            self._record(violation, Scenario(self.target.name, serial.configuration, steps))
            return None
        except HangsError:
            self._note_wait(action)
            return None

    def _waits_in_order(self, serial: Serial, first: Action, second: Action) -> bool:
        """Whether one of two calls, made after the other, waits for a third caller, such as for an item of a queue."""
        if self._has_waited(first) or self._has_waited(second):
            return True
        try:
            serial.prepare(first, second)
        except Violation:
            return False
        except HangsError:
            for action in {first.name: first, second.name: second}.values():
                self._note_wait(action)
            return True
        return False

    def _has_waited(self, action: Action) -> bool:
        """Whether calls of this name have waited so often that no other is tried."""
        return self._hangs[action.name] >= _MOST_HANGS

    def _note_wait(self, action: Action) -> None:
        self._hangs[action.name] += 1
        self.left_out(1)
        self.note(f"left out where it waits for another caller: {action.name}")

    def _is_done(self, serial: Serial, action: Action) -> bool:
        run = self._alone(serial, action)
        return run is not None and run.said.kind == "done"

    @property
    def _left_out(self) -> set[str]:
        """Calls that don't use the store's connections, and those that the target allows to one caller only."""
        names = (getattr(self.target, name, ()) for name in ("by_others", "by_one_caller"))
        return {name for each in names for name in each}

    def _schedules(self, first: Action, second: Action, callers: Callers) -> Iterator[Interleave]:
        """One after the other, then every switch point of the first, then some of both."""
        self._points, self._returns = (0, 0), tuple[int, ...]()
        yield Interleave(first, second, callers=callers)
        one, two = self._points
        # With a budget the last one, while there is room: no other point comes after it.
        most = self.most_schedules
        returns = self._returns if most is None else self._returns[-1:] if self.counts["schedules"] < most else ()
        self.left_out(len(self._returns) - len(returns))
        self.counts["points"] += one + len(self._returns)
        yield from (Interleave(first, second, at, callers=callers) for at in range(1, one + 1))
        yield from (Interleave(first, second, -at, callers=callers) for at in returns)
        both = list(product(range(1, one + 1), range(2, two + 1)))
        killed = both if self._may_be_killed(second, callers) else []
        if self.most_schedules is not None:
            most = 0 if self.preemptions < 2 else _BOTH_STOPPED
            self.left_out(max(len(both) - most, 0))
            both = self._both.draw(first, second, (one, two), most)
            # One, beyond the budget.
            self.left_out(max(len(killed) - 1, 0))
            killed = self._both.draw(first, second, (one, two), 1) if killed else []
        for at, back in both if self.preemptions > 1 else ():
            yield Interleave(first, second, at, back, callers)
        yield from (Interleave(first, second, at, back, callers, killed=True) for at, back in killed)

    def _may_be_killed(self, second: Action, callers: Callers) -> bool:
        """Whether schedules kill the second caller: it has a process of its own, and its call commits once."""
        return callers == "processes" and self.preemptions > 1 and second.name not in self.target.many_commits

    # -- one schedule --------------------------------------------------------------------------------------

    def _try(self, stage: Stage, serial: Serial, step: Interleave) -> None:
        """Play one schedule and report it to the recorder; a finding is recorded, not raised."""
        counts, is_finding = self.counts, False
        played: Played | None = None
        try:
            played = stage.play(step, serial)
            hops = stage.hops
        except OwnSessionError:
            self._leave_if_held(stage)
            return
        except Violation as violation:
            self._leave_if_held(stage)
            if not self.is_declared and (step.fresh or OPEN in step.actions):
                self._note_opening(step)
                return
            is_finding, hops = True, stage.hops
            if not self.is_declared:
                self._by_nature.require_in_order(stage, serial, step, violation, self._calls_worth_making)
            counts["findings"] += 1
            self._found(violation, stage, serial, step)
        if not step.switch:
            ended = {hop.caller: hop.event for hop in hops if isinstance(hop.event, Ended)}
            one, two = (ended.get(name, _NOT_ENDED) for name in "AB")
            self._points, self._returns = (one.points, two.points), one.returns
        if step.switch and step.earlier is None and OPEN not in step.actions:
            self._both.note(step, hops)
            self.seen.update((_MADE + step.first.name, _MADE + step.second.name))
        counts["tried"] += 1
        counts["schedules"] += 1
        got_busy = played is not None and (played.outcome.first.busy or played.outcome.second.busy)
        counts["got_busy"] += got_busy
        series = Series(
            "switch",
            step.callers,
            "before",
            step.how,
        )
        where = Place(stage.configuration, serial.state.step, " and ".join(map(str, step.actions)), str(step))
        self.recorder.tell(PointTried(series, True, got_busy, where, is_finding))  # noqa: FBT003 - it is a record

    def _note_opening(self, step: Interleave) -> None:
        """A program that declares no callers may be started once only."""
        beside = "opens it, too," if step.first == step.second else "makes a call"
        self.note(
            f"not judged: a process that opens the store while another one {beside} fails a check; declare "
            'callers = ("processes",) to have it judged'
        )

    def _leave_if_held(self, stage: Stage) -> None:
        """A leftover would affect every later check, so this directory is not used again."""
        if held_open(stage.home):
            stage.home = next(self._homes)
            self.counts["leaks"] += 1

    def _found(self, violation: Violation, stage: Stage, serial: Serial, step: Interleave) -> None:
        """Record a finding by its shortest scenario, if it is the first of its kind."""
        steps = (*self._steps_to(serial.state), step)
        self._record(violation, Scenario(self.target.name, stage.configuration, steps))

    def _steps_to(self, state: State) -> tuple[Step, ...]:
        """The steps of a scenario that lead to a state."""
        calls = tuple(map(Call, state.before))
        step_ms = state.clock.step_ms
        return calls if step_ms == self.target.clock_step_ms else (ClockPace(step_ms), *calls)

    def _record(self, violation: Violation, scenario: Scenario) -> None:
        """Record a finding by its shortest scenario, if it is the first of its kind."""
        finding = Finding.of(violation, scenario, self.name)
        if self.recorder.repeats_one(finding):
            return
        key, home = self.recorder.key_of(finding), self.directory / "minimise"
        short = shown(scenario, violation, self.target, home, is_over=self.recorder.shrinking())
        finding = Finding.of(short.violation, short.scenario, self.name, short.note, shows_again=short.again)
        self.recorder.found(finding, self.target, DedupKeys(before=(key,), joins=(key,)))
