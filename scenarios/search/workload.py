"""Where each call of a workload starts: the files before it, the state it leads to, the operations that it makes.

Method. The workload is played without a fault, configuration by configuration; before each call the files are copied,
and a dry run of the call from that copy counts its operations. Opening and closing count as calls. The play itself is
checked, too: a failure without a fault is a separate finding, and its scenario arms nothing.

A part of a search is a few calls in one configuration; it replays the workload up to there, which costs a few
milliseconds.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.preflight.contract import require_same_when_cold
from tornpage.scenarios.execution.reopen import Reopened, fails_later
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.execution.snapshots import Files, first_free, place, siblings
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.covering import CallPlace
from tornpage.scenarios.model.events import Place
from tornpage.scenarios.model.judging.answers import NotCompared, agreed, in_words, is_alike
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import Call, Scenario, Step
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View, is_specified
from tornpage.scenarios.model.work import Need, Part, cut
from tornpage.scenarios.search.base import Search
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.scripts import fails_without_fault
from tornpage.scenarios.targets.declaration import require_as_declared

_CALLS_A_PART: Final = 8
# Opening is tried before the first call, and opening, closing and opening again after the last.
_OPENINGS: Final = 4


# A call of the workload: its step and action, files and view before it, the view after it, its stages, and its answer.
_Met = tuple[int, Action, Files, View, View, tuple[View, ...], Answer | None]

_LET_GO: Final = (
    "; `close` must release all of the store's files, also those that a pool or an unread cursor keeps open"
)
_IN_MEMORY: Final = (
    "without a fault it is {} in the session that made the calls before it, and {} in one that was just opened: it "
    "comes from memory, which may be out of date"
)


class Start(msgspec.Struct, frozen=True):
    """Where one call of the workload starts, and where it leads; `call` is the action in words."""

    step: int
    action: Action
    call: str
    files: Files
    before: View
    after: View
    counts: dict[tuple[str, str], int]
    stages: tuple[View, ...] = ()
    # The call's answer without a fault.
    wanted: Any = NotCompared()
    # Whether the store refuses it without any fault.
    is_refused: bool = False
    # The steps of a scenario that lead here; without any, the workload does.
    lead: tuple[Step, ...] = ()

    def located(self, configuration: Configuration, condition: str) -> Place:
        """The place in the workload."""
        return Place(configuration, self.step, self.call, condition)

    def place_in(self, configuration: Configuration) -> CallPlace:
        """Which call of the workload it is."""
        return str(configuration), self.step, self.call


class WorkloadSearch(Search):
    """A search that starts from the calls of a target's workload. `depths`: where operations are counted."""

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        depths: tuple[str, ...] | None = None,
        seed: int = 0,
        home: Path | None = None,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.depths = depths or target.depths
        # A path may be part of what a store writes, so the points are tried where the workload is played.
        self._homes = siblings(home or directory / "point")
        self.home = next(self._homes)
        self._reopened: Reopened | None = None

    def parts(self) -> Iterator[Part]:
        """A few calls in each configuration."""
        for configuration in self.configurations:
            yield from self.parts_of_calls(configuration)

    def parts_of_calls(self, configuration: Configuration, kind: str = "") -> Iterator[Part]:
        """The calls of the workload in one configuration, with its opening and closing, some at a time."""
        yield from cut(configuration, len(self.target.workload()) + _OPENINGS, _CALLS_A_PART, kind)

    def needs(self) -> Iterator[Need]:
        """A workload has to make calls."""
        if not self.target.workload():
            yield Need("calls of the workload", f"the workload of {self.target.name} makes no call")

    def found(self, violation: Violation, scenario: Scenario, search: str = "") -> None:
        """Record a finding, of this search or of another."""
        raise NotImplementedError

    def reopened_at(self, configuration: Configuration) -> Reopened:
        """The reader of the crash copies of this configuration."""
        if self._reopened is None or self._reopened.configuration != configuration:
            self._reopened = Reopened(self.target, configuration, self.directory / "reopened")
        return self._reopened

    def starts(self, configuration: Configuration, part: Part | None = None) -> Iterator[Start]:
        """Play the workload without a fault; before each call of a part, yield what a sweep of it needs.

        Raises `TargetError`.
        """
        try:
            yield from self._starts(configuration, part or Part(configuration))
        except (faults.FaultError, TargetError):
            raise
        except Exception as error:
            what = error.message if isinstance(error, Violation) else repr(error)
            what += _LET_GO if "files are still open" in what else ""
            raise TargetError(f"{self.target.name} fails without any fault at {configuration}: {what}") from error

    def _starts(self, configuration: Configuration, part: Part) -> Iterator[Start]:
        # What an earlier part or search has met may have left files open here.
        self.home = home = first_free(chain((self.home,), self._homes))
        place({}, home)
        with Trial(self.target, configuration, home, {}) as fresh:
            fresh.at_step(0)
            fresh.open()
            require_as_declared(self.target, configuration, home, fresh.journal_mode(), fresh.live_view())
        place({}, home)
        # The points are tried where this is played, so it has to be over before.
        with Trial(self.target, configuration, home, {}) as dry:
            met = list(self._met(dry, part))
        for step, action, files, before, view, stages, answer in met:
            start = self._start(configuration, step, action, files, before, view, stages)
            yield start if answer is None else self._as_answered(configuration, start, answer)

    def _met(self, dry: Trial, part: Part) -> Iterator[_Met]:
        """Play the workload; yield the part's calls."""
        if 0 in part:
            yield 0, OPEN, {}, {}, {}, (), None
        dry.at_step(0)
        if "statement" in self.target.depths:
            dry.watch_statements()
        dry.open()
        view: View = {}
        step = 0
        for step, action in enumerate(self.target.workload(), start=1):
            if part.is_past(step):
                return
            # The files of a few calls of a long workload are enough; the check costs the store's time, and never
            # varies.
            before, files = dry.live_view(), dry.crash_copy() if step in part else {}
            dry.at_step(step)
            answer, stages = dry.call_by_stages(action)
            wrong, view = self._outcome(dry, action, answer)
            if wrong is not None:
                if step in part:
                    self._fails(dry, step, wrong)
                return
            if step in part:
                self._judge_without_fault(dry, step, action, before, answer)
                yield step, action, files, before, view, stages, answer
        left, last = dry.crash_copy(), step + 1
        dry.call(CLOSE, view)
        closed = dry.crash_copy()
        ends = ((last, OPEN, left), (last, CLOSE, left), (last + 1, OPEN, closed))
        for number, (step, action, files) in enumerate(ends, start=last):
            if number in part:
                yield step, action, files, view, view, (), None

    def _judge_without_fault(self, dry: Trial, step: int, action: Action, before: View, answer: Answer) -> None:
        """Find a violation without any fault before any is armed, and report it once."""
        self.counts["faultless"] += 1
        try:
            dry.look_after_call(action, before, answer)
            # A copy is opened, too, for the state after a restart, and for checks that need a copy.
            dry.look_after_crash(dry.crash_copy(), self.reopened_at(dry.oracle.configuration))
        except Violation as violation:
            self._fails(dry, step, violation)

    def _outcome(self, dry: Trial, action: Action, answer: Answer) -> tuple[Violation | None, View]:
        """The view after a call. A failure without any fault is a violation if the target specifies the call's result.

        Raises `TargetError` if it doesn't.
        """
        is_judged = is_specified(self.target)
        if answer.kind == "raised":
            if is_judged:
                return fails_without_fault(action, answer), {}
            message = f"{self.target.name}: {action} fails without any fault: it {answer}"
            raise TargetError(message) from answer.error
        try:
            return None, dry.live_view()
        except Exception as error:
            if not is_judged:
                raise
            return Violation("still-usable-after-the-fault", f"after {action} the view fails with {error!r}"), {}

    def _fails(self, dry: Trial, step: int, violation: Violation) -> None:
        steps = tuple(Call(one) for one in self.target.workload()[:step])
        self.found(violation, Scenario(self.target.name, dry.oracle.configuration, steps))

    def _start(
        self,
        configuration: Configuration,
        step: int,
        action: Action,
        files: Files,
        before: View,
        after: View,
        stages: tuple[View, ...] = (),
    ) -> Start:
        """Count the operations of the call in a cold session, at each depth."""
        # What a fault of the call before has met may have left files open.
        self.home = home = first_free(chain((self.home,), self._homes))
        counts: dict[tuple[str, str], int] = {}
        place(files, home)
        with Trial(self.target, configuration, home, before) as trial:
            trial.at_step(step)
            if action != OPEN:
                trial.open()
            with faults.count_operations(home) as counter:
                answer = trial.call(action, after)
                wanted = answer.value
            counts.update(counter.counts)
            if trial.session is not None and action != OPEN and answer.kind == "done":
                self._require_same_when_cold(trial, action, before, after)
        if "statement" in self.depths:
            place(files, home)
            with Trial(self.target, configuration, home, before) as trial:
                trial.at_step(step)
                trial.watch_statements()
                if action != OPEN:
                    trial.open()
                with trial.statements.count_operations() as counter:
                    trial.call(action, after)
            counts.update(counter.counts)
        return Start(step, action, str(action), files, before, after, counts, stages, wanted)

    def answer_again(self, configuration: Configuration, start: Start) -> Any:
        """The call's answer in another session that was just opened, without a fault."""
        home = self.directory / "again"
        place(start.files, home)
        with Trial(self.target, configuration, home, start.before) as again:
            again.at_step(start.step)
            again.open()
            return again.call(start.action, start.after).value

    def _as_answered(self, configuration: Configuration, start: Start, warm: Answer) -> Start:
        """The start with its call's answer, if a cold session gives the same one as the `warm` one."""
        if warm.kind != "done":
            return msgspec.structs.replace(start, is_refused=warm.kind == "refused")
        wanted = agreed(warm.value, start.wanted)
        if isinstance(wanted, NotCompared):
            only_reads = start.before == start.after and not start.lead
            if not only_reads or not self._is_outdated(configuration, start):
                why = self._why_not_compared(configuration, start, warm.value) or wanted.reason
                self.note(f"the answer of {start.action.name} is not compared: {why}")
        elif wanted is not None:
            self.counts["answers"] += 1
        return msgspec.structs.replace(start, wanted=wanted)

    def _why_not_compared(self, configuration: Configuration, start: Start, warm: Any) -> str:
        """Why the `warm` session's answer is not the one of a new session; "" if it varies from run to run."""
        both = warm, start.wanted
        if any(isinstance(one, NotCompared) for one in both):
            return ""
        is_in_memory = is_alike(self.answer_again(configuration, start), start.wanted)
        return _IN_MEMORY.format(*map(in_words, both)) if is_in_memory else ""

    def _is_outdated(self, configuration: Configuration, start: Start) -> bool:
        """Whether a read returns what was there before; found by a scenario that ends with it, and recorded."""
        steps = tuple(Call(one) for one in self.target.workload()[: start.step])
        scenario = Scenario(self.target.name, configuration, steps)
        violation, _ = play(scenario, self.target, self.directory / "outdated")
        if violation is not None:
            self.found(violation, scenario)
        return violation is not None

    def _require_same_when_cold(self, trial: Trial, action: Action, before: View, after: View) -> None:
        try:
            cold = trial.live_view()
        except Exception:  # noqa: BLE001 - a view that fails is for the points to find
            return
        require_same_when_cold(self.target, action, (before, after), cold)

    def start_from(
        self, configuration: Configuration, action: Action, files: Files, view: View, lead: tuple[Step, ...]
    ) -> Start:
        """The start of one call on files that a crash has left; raises `Violation` if it fails without a fault."""
        step, home = len(lead), self.home
        place(files, home)
        with Trial(self.target, configuration, home, view) as dry:
            dry.at_step(step)
            if "statement" in self.target.depths:
                dry.watch_statements()
            if action != OPEN:
                dry.open()
            answer, stages = dry.call_by_stages(action)
            if answer.kind == "raised":
                raise fails_later(f"with nothing armed, {action} fails", answer.error) from answer.error
            after = dry.live_view()
        start = self._start(configuration, step, action, files, view, after, stages)
        return self._as_answered(configuration, msgspec.structs.replace(start, lead=lead), answer)
