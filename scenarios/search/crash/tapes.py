"""Judge the crash states of one tape: the base of the crash search.

Method. The steps of a tape are played and recorded; of each of its calls a sample of the disks that a crash could have
left is opened and judged by the answers that callers had at that position. A finding is recorded by its shortest
scenario. While a tape is judged, the states from which a recovery should start are kept.
"""

import contextlib
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from tornpage import faults
from tornpage.faults.contention.idle import real_monotonic
from tornpage.scenarios.execution.crash.footprint import OWN_SUFFIXES, name_in
from tornpage.scenarios.execution.crash.reader import CrashReader
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.finding.shrink import Shown
from tornpage.scenarios.model.events import CrashesTried, CrashPoint, Finding, StatesTried
from tornpage.scenarios.model.fingerprint import call_of
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import Promise, promise_of
from tornpage.scenarios.model.scenario import Call, CrashAt, Restart, Scenario, Step
from tornpage.scenarios.model.target import Configuration, NotJudged, Target, TargetError
from tornpage.scenarios.search.base import Search
from tornpage.scenarios.search.crash.played import Tape, Workloads, play_tape
from tornpage.scenarios.search.crash.sample import Sample, decisive_positions
from tornpage.scenarios.search.crash.shrunk import shortest
from tornpage.scenarios.search.recorder import DedupKeys, Key, Recorder

_Any = TypeVar("_Any")
_TOLD_EVERY: Final = 50
# If every state is wanted: the number for each call after a fault, or of a recovery, since there are millions.
_MOST_OF_A_SHARE: Final = 100
_FEW_OF_A_SHARE: Final = 1_000
_DEPLOYED: Final = (
    "created before the first call was acknowledged, and never synced into the directory above: {}; crashes are "
    "assumed to keep it, as part of the deployment (POSIX would allow its loss)"
)
WORKLOADS: Final = Workloads()
"""The recordings of workloads that parts in one process share."""


class TapeSearch(Search):
    """Plays tapes and judges the crash states of each; a subclass says which tapes. Findings go to a `Recorder`."""

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        most_states_per_call: int | None = None,
        device: faults.Device | None = None,
        latent: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.most_states_per_call = most_states_per_call
        self.device = device or faults.Device()
        self.latent = latent
        self.calls: tuple[Step, ...] = tuple(Call(action) for action in target.workload())
        # Distinct crash states of the part, and the files after the store was closed if the part includes that.
        self.starts: list[Tape] = []
        self.torn: Tape | None = None
        self.after_close: Tape | None = None
        # A forecast tries a few states, and counts those that are tried if every state is wanted, the time of each that
        # it has tried, and the time of all recordings.
        self.is_forecast = False
        self.foretold = self.recordings_s = 0.0
        self.each_s: list[float] = []
        # Its faults come from outside, as strace does, and a process can have one strace only.
        self.is_program = "syscall" in target.depths

    def try_tape(self, tape: Tape, reader: CrashReader, tally: CrashesTried) -> Counter[str]:
        """Play steps, record them, and judge the crash states of the recording; return the counts of the play."""
        began = real_monotonic()
        recording, counts = self.played(tape, reader.configuration)
        self.recordings_s += tape.stands_for * (real_monotonic() - began)
        if recording is None:
            tally.broken += 1
            return counts
        # A target may cache what it learned when it was played, and another part may have played it.
        reader.target = recording.trial.target
        # The workload is the same for each of its parts, and is counted once: with the last one.
        tally.operations += len(recording.tape) if tape.part is None or tape.part.end is None else 0
        for state in self._states(recording, tape, reader, tally):
            if self.recorder.enough():
                break
            began = real_monotonic()
            self._try_state(recording, state, reader, tally, tape)
            if self.is_forecast:
                self.each_s.append(real_monotonic() - began)
        if tape.part is not None and tape.part.end is None:
            self.after_close = self._start_after_close(tape, recording, reader)
        return counts

    def _start_after_close(self, tape: Tape, recording: Recording, reader: CrashReader) -> Tape | None:
        """The start on the files that a clean close has left; None if they violate a check."""
        state = recording.states().process(len(recording.tape))
        try:
            view, _ = recording.judge(state, reader)
        except (Violation, NotJudged):
            return None
        return Tape((), self._scenario(tape, recording, state).steps, dict(state.files), view)

    def played(self, tape: Tape, configuration: Configuration) -> tuple[Recording | None, Counter[str]]:
        """The recording of a tape's steps, None if they fail without any crash; and the counts of the play.

        In the workload itself that is a finding; failures after a fault are for the sweep, but for a call that is made
        again and acknowledged.
        """
        # A part that plays the workload continues with the same random state as one that finds it cached.
        alone = contextlib.nullcontext() if tape.part is None else faults.shims().deterministic(self.seed)
        play = play_tape if tape.part is None else WORKLOADS.of
        try:
            with alone:
                played = play(
                    msgspec.structs.replace(tape, part=None),
                    self.target,
                    configuration,
                    self.directory / "recorded",
                    # A program may work in the background between its calls; that has ended when its store is closed.
                    compares=not self.is_program,
                )
        except Violation:
            # The files that it begins with break a check: the workload has met that.
            if not tape.prelude:
                raise
            return None, Counter()
        end = len(played.steps) if tape.part is None or tape.part.end is None else tape.part.end
        failed = played.failure_of(end)
        if isinstance(failed, TargetError):
            raise failed
        if failed is not None:
            if not tape.prelude:
                self.found(failed, Scenario(self.target.name, configuration, played.steps))
            elif tape.repeats and len(played.steps) > len(tape.steps) and failed.code == "acknowledged-is-durable":
                # No other search makes a call again after a fault.
                self.counts["findings"] += 1
                self.found(failed, Scenario(self.target.name, configuration, (*tape.prelude, *tape.steps)))
            return None, played.counts
        if tape.part is not None:
            # The time at which the part's own calls had been made.
            played.recording.trial.at_step(end)
        return played.recording, played.counts

    def _states(
        self, recording: Recording, tape: Tape, reader: CrashReader, tally: CrashesTried
    ) -> Iterator[faults.State]:
        """The states of each call, in the order of the tape; a `Sample` if there are too many."""
        operations = recording.tape.operations
        every = self.most_states_per_call is None or self.is_forecast
        device = tape.device or self.device
        states = recording.states(device, self.seed, every=every)
        if tape.share == 1 and (made := recording.deployed()):
            names = dict.fromkeys(f"{operations[index].path}/" for index in made)
            self.note(_DEPLOYED.format(", ".join(names)))
        spans = recording.history.spans
        directory = recording.trial.directory
        database = os.path.relpath(recording.trial.target.database(directory), directory)
        checkpointed = database if recording.history.configuration.journal_mode == "wal" else None
        decisive = decisive_positions(operations, {span.end for span in spans}, checkpointed)
        sample = Sample(states, decisive, self.generator, lambda state: not reader.knows(state))
        first, settled = 0, recording.history.start
        for span in spans:
            positions = range(first, span.end + 1)
            first = max(first, span.end + 1)
            answered, settled = span.answer.kind != "done" or span.settled != settled, span.settled
            if tape.part is not None and span.step not in tape.part:
                continue
            many = sum(states.how_many(position) + 1 for position in positions)
            tally.enumerable += many
            if self.is_forecast:
                self.foretold += tape.stands_for * _wanted_of(states, positions, tape.share, many)
            yield from self._some(sample, positions, tape.share, many, answered=answered)
        _leave_out(tally, states.left_out())

    def _some(
        self, sample: Sample, positions: Sequence[int], share: int, many: int, *, answered: bool
    ) -> Iterator[faults.State]:
        if self.most_states_per_call is not None:
            most = max(self.most_states_per_call // share, 1)
            yield from sample.some(positions, most, whole=share == 1, answered=answered)
        elif share == 1 or many <= _FEW_OF_A_SHARE:
            yield from sample.every(positions)
        else:
            yield from sample.some(positions, _MOST_OF_A_SHARE, whole=True, answered=answered)

    def _try_state(
        self, recording: Recording, state: faults.State, reader: CrashReader, tally: CrashesTried, tape: Tape
    ) -> None:
        self.counts["states"] += 1
        tally.states += 1
        beginnings = len(reader.beginnings)
        # Only the workload itself has a map; other tapes begin at other states.
        point = _point_of(tally, recording, state) if tape.share == 1 else CrashPoint("", 0, "")
        point.states += 1
        try:
            view, outcome = recording.judge(state, reader, tape.device or self.device)
        except NotJudged as doubt:
            self._doubted(doubt)
        except Violation as violation:
            if promise_of(reader.configuration, power=state.crash.power) is Promise.NOTHING:
                tally.damaged += 1
                point.damaged += 1
            else:
                self.counts["findings"] += 1
                point.findings += 1
                self.found(violation, self._scenario(tape, recording, state))
        else:
            tally.took(outcome)
            point.took(outcome)
            if len(reader.beginnings) > beginnings:
                # The first disk with this view and files of these names: a recovery starts from here.
                scenario = self._scenario(tape, recording, state)
                lost = recording.history.may_return(state.crash.position) if state.crash.power else ()
                self.starts.append(Tape((), scenario.steps, dict(state.files), view, lost=lost))
            if self.torn is None and tape.share == 1 and self._is_torn_beside(recording, state.crash):
                self.torn = Tape((), self._scenario(tape, recording, state).steps, dict(state.files), view)
        if self.counts["states"] % _TOLD_EVERY == 0:
            self.recorder.tell(StatesTried(self.counts["states"], self.counts["disks"] + reader.read))

    def _is_torn_beside(self, recording: Recording, crash: faults.Crash) -> bool:
        """Whether a write to a plain file is torn or has holes: what is joined to it may be lost with a later crash."""
        written = [index for index, *_ in ((crash.torn,) if crash.torn else ()) + crash.holes]
        if self.target.files_view is not None:
            return bool(written)
        directory = recording.trial.directory
        name = name_in(os.fspath(self.target.database(directory)), directory)
        own = {name + suffix for suffix in OWN_SUFFIXES}
        return any(recording.tape.operations[index].path not in own for index in written)

    def _doubted(self, doubt: NotJudged) -> None:
        """Report once why a state could not be judged; the others are judged."""
        self.counts["not_judged"] += 1
        if self.counts["not_judged"] == 1:
            self.vacuous(str(doubt))

    def _scenario(self, tape: Tape, recording: Recording, state: faults.State) -> Scenario:
        """The steps of a tape up to a crash, and the crash."""
        made = recording.history.step_at(state.crash.position)
        # Opening after a prelude was a separate step, but is not a step of the scenario.
        steps = tape.steps[: max(made - len(tape.prelude), 0) if tape.prelude else made]
        if recording.history.is_closing_at(state.crash.position):
            # The search closes the store at the end of its tape; in a scenario a restart does.
            steps = (*steps, Restart())
        crash = CrashAt.of(state.crash, tape.device or self.device)
        return Scenario(self.target.name, recording.history.configuration, (*tape.prelude, *steps, crash))

    def sampled(
        self,
        them: Sequence[_Any],
        share: int,
        what: str,
        tally: CrashesTried,
        kind_of: Callable[[_Any], object] = lambda _: None,
    ) -> Sequence[_Any]:
        """A seeded sample in order, of a share of as many as the profile asks for; `what` names the items.

        Each kind has its turn before any has a second one: a store may fail for only one of many operations.
        """
        most = _MOST_OF_A_SHARE if self.most_states_per_call is None else max(self.most_states_per_call // share, 1)
        if len(them) <= most:
            return them
        _leave_out(tally, {what: len(them) - most})
        turns: Counter[object] = Counter()
        drawn: list[tuple[int, int]] = []
        for index in self.generator.sample(range(len(them)), len(them)):
            turns[kind_of(them[index])] += 1
            drawn.append((turns[kind_of(them[index])], index))
        drawn.sort(key=operator.itemgetter(0))
        return [them[index] for index in sorted(index for _, index in drawn[:most])]

    @staticmethod
    def stands_for(them: Sequence[object], chosen: Sequence[object]) -> float:
        """How many of them are tried if every state is wanted, for each that was chosen."""
        return min(len(them), _MOST_OF_A_SHARE) / max(len(chosen), 1)

    # -- findings ------------------------------------------------------------------------------------------

    def found(self, violation: Violation, scenario: Scenario) -> None:
        """Record a finding by its shortest scenario: one for each check, kind of crash, and with or without a fault.

        A store that syncs nothing fails at every second state, which would be too many scenarios to read.
        """
        if self.is_forecast:
            return
        kind = _kind_of(violation, scenario)
        here = (*kind, call_of(scenario), str(scenario.configuration))
        if self.recorder.has_met(kind, here):
            return
        short = self._shortest(violation, scenario)
        if not short.again:
            self.recorder.joins(kind, here)
            self.vacuous(f"{short.violation} [a replay does not show it, so it is not a finding] {short.scenario}")
            return
        scenario, violation = short.scenario, short.violation
        finding = Finding.of(violation, scenario, self.name, short.note)
        if self.recorder.accepts(finding):
            # A baseline entry for one call in one configuration does not cover the others.
            self.recorder.found(finding, self.target, DedupKeys(before=(kind, here), joins=(here,)))
            return
        # Without a fault that it did not need, it may be a known finding.
        shorter_kind = _kind_of(violation, scenario)
        if self.recorder.has_met(shorter_kind):
            self.recorder.joins(kind)
            return
        dedup_keys = DedupKeys(before=(kind, here), after=(shorter_kind,), joins=(kind, shorter_kind))
        self.recorder.found(finding, self.target, dedup_keys)

    def _shortest(self, violation: Violation, scenario: Scenario) -> Shown:
        is_over = self.recorder.shrinking()
        return shortest(violation, scenario, self.target, self.directory / "minimise", self.seed, is_over=is_over)


def _wanted_of(states: faults.CrashStates, positions: Sequence[int], share: int, many: int) -> int:
    """How many of so `many` states of a call are tried if every state is wanted."""
    if share == 1 or many <= _FEW_OF_A_SHARE:
        return many
    return _MOST_OF_A_SHARE + sum(1 + sum(1 for _ in states.whole(position)) for position in positions)


def _leave_out(tally: CrashesTried, what: Mapping[str, int]) -> None:
    tally.left_out = dict(Counter(tally.left_out) + Counter(what))


def _point_of(tally: CrashesTried, recording: Recording, state: faults.State) -> CrashPoint:
    position = state.crash.position
    if position not in tally.by_position:
        rest, pending = recording.history.at(position)
        span = pending or rest
        operation = str(recording.tape.operations[position - 1]) if position else "before the first operation"
        tally.by_position[position] = CrashPoint(operation, span.step, span.call)
    return tally.by_position[position]


def _kind_of(violation: Violation, scenario: Scenario) -> Key:
    """The properties by which a reader takes two findings of one store as one."""
    last = scenario.steps[-1] if scenario.steps else None
    cut_power = isinstance(last, CrashAt) and last.power
    return "kind", violation.code, "power" if cut_power else "process", "after faults" if scenario.faults else "alone"
