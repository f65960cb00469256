"""The crash search: trace once, replay many. Every disk state that a crash could have left is opened and judged.

Method, for each configuration:

1. The workload is played once, and recorded. At each position of the tape the process dies, or the power fails in each
   way that `faults.CrashStates` knows; equal disks are read once, and judged by the answers that callers had at that
   position.
2. Each call is made to fail by single faults of operations that change files, then one more change is made: a crash may
   bring back a failed change only where the measured rules allow it.
3. The store is started on distinct crash states, and always on the files that a clean close has left: the start, and
   the target's recovery, if any, are recorded, crashed in turn, and swept with faults.

A part of the search is a few calls of the workload in one configuration, or the same calls after faults. Parts in one
process share the recording of the workload (`played.Workloads`). Recoveries begin from the states of a part's own
calls.

Power fails on the given `device`, whose guarantees decide what can tear.

For a program of its own, which strace watches (`execution/crash/program_tape`), only step 1 runs, and of step 3 the
crashes of recoveries: faults need strace, too, and a process can have one only.

With `latent`, the disk also returns other data for files at rest than was written.

Not covered: disks that report a sync that they have not made.
"""

import contextlib
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.crash.footprint import OWN_SUFFIXES, name_in
from tornpage.scenarios.execution.crash.reader import CrashReader
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.finding.shrink import Shown
from tornpage.scenarios.execution.preflight.same_path import are_joined
from tornpage.scenarios.execution.trial import CLOSE, OPEN
from tornpage.scenarios.model.events import CrashesTried, CrashPoint, Finding, PointTried, StatesTried
from tornpage.scenarios.model.fingerprint import call_of
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import Promise, promise_of
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Call, Clear, CrashAt, Restart, Scenario, Step
from tornpage.scenarios.model.target import Configuration, NotJudged, Target, TargetError
from tornpage.scenarios.model.work import Need, Part, cut
from tornpage.scenarios.search.base import Search
from tornpage.scenarios.search.crash.latent import WAYS, from_here_on, latent_faults
from tornpage.scenarios.search.crash.played import Tape, Workloads, play_tape
from tornpage.scenarios.search.crash.sample import Sample, decisive_positions
from tornpage.scenarios.search.crash.shrunk import shortest
from tornpage.scenarios.search.points import Point
from tornpage.scenarios.search.recorder import DedupKeys, Key, Recorder
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.search.workload import Start

# File-changing operations, with one effect each: a crash depends on what was done, not on the reported error.
_CHANGES: Final = {
    "write": "IOERR_WRITE",
    "sync": "IOERR_FSYNC",
    "truncate": "IOERR_TRUNCATE",
    "delete": "IOERR_DELETE",
    **dict.fromkeys(("file-write", "file-truncate", "file-fsync", "file-rename", "file-unlink"), "EIO"),
}
# Syncs that may drop pages: SQLite's, and those of plain files.
_SYNCS: Final = frozenset({"sync", "file-fsync"})
_Any = TypeVar("_Any")
_TOLD_EVERY: Final = 50
_FAULTS: Final = "faults of calls, and the crashes after each"
_STARTS: Final = "disks, and the recovery from each"
_RECOVERY_FAULTS: Final = "faults of a recovery"
_WORKLOAD: Final = "workload"
_AFTER_FAULTS: Final = "after faults"
_LATENT: Final = "latent"
_LATENT_FAULTS: Final = "latent faults"
_STEPS_A_PART: Final = 12
_FAULTED_A_PART: Final = 6
# One in so many states of a call is tried after a fault, or starts its own recovery.
_FAULTED_SHARE: Final = 10
# The same after a failed sync, where the device was asked to drop its pages.
_DROPPED_SHARE: Final = 2
_RECOVERY_SHARE: Final = 6
# If every state is wanted: the number for each call after a fault, or of a recovery, since there are millions.
_MOST_OF_A_SHARE: Final = 100
_FEW_OF_A_SHARE: Final = 1_000
_DEPLOYED: Final = (
    "created before the first call was acknowledged, and never synced into the directory above: {}; crashes are "
    "assumed to keep it, as part of the deployment (POSIX would allow its loss)"
)
_WORKLOADS: Final = Workloads()


class CrashSearch(Search):
    """Searches the crash states of one target over configurations; reports findings to a `Recorder`."""

    name = "crash"

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
        self._calls: tuple[Step, ...] = tuple(Call(action) for action in target.workload())
        # Distinct crash states of the part, and the files after the store was closed if the part includes that.
        self._starts: list[Tape] = []
        self._torn: Tape | None = None
        self._after_close: Tape | None = None
        # Its faults come from outside, as strace does, and a process can have one strace only.
        self._is_program = "syscall" in target.depths

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many states of a call, and on which device."""
        return {"most_states_per_call": plan.profile.crash_states, "device": plan.device, "latent": plan.latent}

    def company(self) -> contextlib.AbstractContextManager[object]:
        """The recording of the workload, which its parts share."""
        return _WORKLOADS.kept()

    def parts(self) -> Iterator[Part]:
        """Some calls of the workload in each configuration, with the recoveries after them; then calls after faults."""
        for configuration in self.configurations:
            kinds = ((_WORKLOAD, _STEPS_A_PART), (_AFTER_FAULTS, _FAULTED_A_PART))
            for kind, size in kinds[:1] if self._is_program else kinds:
                # One more step closes the store.
                yield from cut(configuration, len(self._calls) + 1, size, kind)
            if self.latent:
                yield from cut(configuration, 1, 1, _LATENT)

    def search(self, part: Part) -> bool:
        """Try every state of the part."""
        configuration = part.configuration
        reader = CrashReader(self.target, configuration)
        tally = CrashesTried(self.target.name, configuration)
        self._starts, self._after_close, self._torn = [], None, None
        # Determined once in a process, and it uses SQLite's random generator: so not inside the first part that needs
        # it.
        are_joined(self.target, configuration, self.directory / "joined")
        with faults.shims().deterministic(self.seed):
            try:
                if part.kind == _AFTER_FAULTS:
                    self._after_faults(reader, tally, part)
                elif part.kind == _LATENT:
                    self._latent(configuration, tally)
                else:
                    self._over_workload(reader, tally, part)
            finally:
                self.counts["disks"] += reader.read
                tally.disks = reader.read
                self.left_out(max(tally.enumerable - tally.states, 0) + sum(tally.left_out.values()))
                self.recorder.tell(tally)
        return not self.recorder.enough()

    def needs(self) -> Iterator[Need]:
        """Calls, and crash states."""
        if not self._calls:
            yield Need("calls of the workload", f"{self.target.name} has a workload without calls")
        yield Need("states", "no crash state was tried")

    # -- one part ------------------------------------------------------------------------------------------

    def _over_workload(self, reader: CrashReader, tally: CrashesTried, part: Part) -> None:
        """The states of some steps of the workload, and the recoveries from them."""
        self._try_tape(Tape(self._calls, part=part), reader, tally)
        if not tally.broken:
            self._recoveries(self._starts, reader, tally)

    def _try_tape(self, tape: Tape, reader: CrashReader, tally: CrashesTried) -> Counter[str]:
        """Play steps, record them, and judge the crash states of the recording; return the counts of the play."""
        played = self._played(tape, reader.configuration)
        if played is None:
            tally.broken += 1
            return Counter()
        recording, counts = played
        # A target may cache what it learned when it was played, and another part may have played it.
        reader.target = recording.trial.target
        # The workload is the same for each of its parts, and is counted once: with the last one.
        tally.operations += len(recording.tape) if tape.part is None or tape.part.end is None else 0
        for state in self._states(recording, tape, reader, tally):
            if self.recorder.enough():
                break
            self._try_state(recording, state, reader, tally, tape)
        if tape.part is not None and tape.part.end is None:
            self._after_close = self._start_after_close(tape, recording, reader)
        return counts

    def _start_after_close(self, tape: Tape, recording: Recording, reader: CrashReader) -> Tape | None:
        """The start on the files that a clean close has left; None if they violate a check."""
        state = recording.states().process(len(recording.tape))
        try:
            view, _ = recording.judge(state, reader)
        except (Violation, NotJudged):
            return None
        return Tape((), self._scenario(tape, recording, state).steps, dict(state.files), view)

    def _played(self, tape: Tape, configuration: Configuration) -> tuple[Recording, Counter[str]] | None:
        """The recording of a tape's steps; None if they fail without any crash.

        In the workload itself that is a finding; failures after a fault are for the sweep.
        """
        # A part that plays the workload continues with the same random state as one that finds it cached.
        alone = contextlib.nullcontext() if tape.part is None else faults.shims().deterministic(self.seed)
        play = play_tape if tape.part is None else _WORKLOADS.of
        with alone:
            played = play(
                msgspec.structs.replace(tape, part=None),
                self.target,
                configuration,
                self.directory / "recorded",
                # A program may work in the background between its calls; that has ended when its store is closed.
                compares=not self._is_program,
            )
        end = len(played.steps) if tape.part is None or tape.part.end is None else tape.part.end
        failed = played.failure_of(end)
        if isinstance(failed, TargetError):
            raise failed
        if failed is not None:
            if not tape.prelude:
                self._found(failed, Scenario(self.target.name, configuration, played.steps))
            return None
        if tape.part is not None:
            # The time at which the part's own calls had been made.
            played.recording.trial.at_step(end)
        return played.recording, played.counts

    def _states(
        self, recording: Recording, tape: Tape, reader: CrashReader, tally: CrashesTried
    ) -> Iterator[faults.State]:
        """The states of each call, in the order of the tape; a `Sample` if there are too many."""
        operations, every = recording.tape.operations, self.most_states_per_call is None
        device = tape.device or self.device
        states = recording.states(device, self.seed, every=every)
        if tape.share == 1 and (made := recording.deployed()):
            self.note(_DEPLOYED.format(", ".join(f"{operations[index].path}/" for index in made)))
        spans = recording.history.spans
        directory = recording.trial.directory
        database = os.path.relpath(recording.trial.target.database(directory), directory)
        checkpointed = database if recording.history.configuration.journal_mode == "wal" else None
        decisive = decisive_positions(operations, {span.end for span in spans}, checkpointed)
        sample = Sample(states, decisive, self.generator, lambda state: not reader.knows(state))
        first = 0
        for span in spans:
            positions = range(first, span.end + 1)
            first = max(first, span.end + 1)
            if tape.part is not None and span.step not in tape.part:
                continue
            many = sum(states.how_many(position) + 1 for position in positions)
            tally.enumerable += many
            yield from self._some(sample, positions, tape.share, many)
        _leave_out(tally, states.left_out())

    def _some(self, sample: Sample, positions: Sequence[int], share: int, many: int) -> Iterator[faults.State]:
        if self.most_states_per_call is not None:
            yield from sample.some(positions, max(self.most_states_per_call // share, 1), whole=share == 1)
        elif share == 1 or many <= _FEW_OF_A_SHARE:
            yield from sample.every(positions)
        else:
            yield from sample.some(positions, _MOST_OF_A_SHARE, whole=True)

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
                self._found(violation, self._scenario(tape, recording, state))
        else:
            tally.took(outcome)
            point.took(outcome)
            if len(reader.beginnings) > beginnings:
                # The first disk with this view and files of these names: a recovery starts from here.
                scenario = self._scenario(tape, recording, state)
                self._starts.append(Tape((), scenario.steps, dict(state.files), view))
            if self._torn is None and tape.share == 1 and self._is_torn_beside(recording, state.crash):
                self._torn = Tape((), self._scenario(tape, recording, state).steps, dict(state.files), view)
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

    def _sampled(
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

    # -- after a fault -------------------------------------------------------------------------------------

    def _after_faults(self, reader: CrashReader, tally: CrashesTried, part: Part) -> None:
        """Each call under single faults of file-changing operations, then one more change; then the crashes."""
        sweep, beat = self._sweep(reader.configuration), Call(self.target.heartbeat())
        for start in sweep.starts(reader.configuration, part):
            if start.action in (OPEN, CLOSE):
                continue
            before = self._calls[: start.step - 1] or (Restart(),)
            changing = _changing(sweep, reader.configuration, start)
            for point in self._sampled(changing, _FAULTED_SHARE, _FAULTS, tally, _kind_of_operation):
                if self.recorder.enough():
                    return
                self._after_fault(point, before, beat, reader, tally, None)
            for point in self._sampled(
                self._failed_syncs(sweep, reader.configuration, start), self._dropped_share, _FAULTS, tally
            ):
                if self.recorder.enough():
                    return
                self._after_fault(point, before, beat, reader, tally, replace(self.device, failed_sync="drops"))

    def _after_fault(
        self,
        point: Point,
        before: tuple[Step, ...],
        beat: Call,
        reader: CrashReader,
        tally: CrashesTried,
        device: faults.Device | None,
    ) -> None:
        start = point.start
        tape = Tape(
            (point.step, Call(start.action), Clear(), beat),
            (*before, Restart(crash=True)),
            start.files,
            start.before,
            self._dropped_share if device else _FAULTED_SHARE,
            device=device,
        )
        came_to = self._try_tape(tape, reader, tally)
        fired, surfaced = bool(came_to["fired"]), bool(came_to["surfaced"])
        self.counts.update(fired=fired, surfaced=surfaced, tried=1)
        # Failures here happen in a crash, and are counted there.
        self.recorder.tell(PointTried(point.series, fired, surfaced, point.located(reader.configuration)))

    @property
    def _dropped_share(self) -> int:
        """The share of failed syncs, and of the states after each: larger where the device was asked for."""
        return _FAULTED_SHARE if self.device.failed_sync == "keeps" else _DROPPED_SHARE

    def _failed_syncs(self, sweep: Sweep, configuration: Configuration, start: Start) -> list[Point]:
        """Single faults of syncs, if the target or the device asks for dropped pages."""
        if not self.target.survives_failed_sync and self.device.failed_sync == "keeps":
            return []
        return [
            point
            for point in sweep.points_of(configuration, start)
            if point.series.kind in _SYNCS and point.series.timing == "before" and not point.is_sticky
        ]

    def _sweep(self, configuration: Configuration) -> Sweep:
        return Sweep(
            self.target,
            self.recorder,
            self.directory / "sweep",
            configurations=(configuration,),
            depths=("vfs",),
            seed=self.seed,
            # Where the tapes are recorded: a path may be part of what a store writes.
            home=self.directory / "recorded" / "real",
        )

    # -- files at rest -------------------------------------------------------------------------------------

    def _latent(self, configuration: Configuration, tally: CrashesTried) -> None:
        """Damage the files that each call has left; each damage is a scenario of its own."""
        # If there is a log, it holds most of a store until it is closed.
        restarted = tuple(step for call in self._calls for step in (call, Restart()))
        for steps in (self._calls, restarted):
            played = self._played(Tape(steps), configuration)
            them = latent_faults(played[0], self.generator) if played else []
            for way in WAYS:
                of_this_way = [one for one in them if one[1].way == way]
                for number, damage in self._sampled(of_this_way, 2 * len(WAYS), _LATENT_FAULTS, tally):
                    if self.recorder.enough():
                        return
                    for one in from_here_on(damage):
                        if not self._try_latent(Scenario(self.target.name, configuration, (*steps[:number], one))):
                            break

    def _try_latent(self, scenario: Scenario) -> bool:
        """Whether the store has met the damage to its files, as far as that is known."""
        violation, counts = play(scenario, self.target, self.directory / "latent")
        self.counts.update({name: count for name, count in counts.items() if name.startswith("latent_")})
        if violation is not None:
            self._found(violation, scenario)
        return not counts["latent_unmet"]

    # -- recovery ------------------------------------------------------------------------------------------

    def _recoveries(self, met: list[Tape], reader: CrashReader, tally: CrashesTried) -> None:
        """Start from distinct crash states: boot and recovery crash in their turn, and are swept with faults."""
        sweep = self._sweep(reader.configuration)
        recovery = self.target.recovery
        workloads = sum(1 for _ in cut(reader.configuration, len(self._calls) + 1, _STEPS_A_PART))
        starts = list(self._sampled(met, _RECOVERY_SHARE * workloads, _STARTS, tally))
        for always in (self._after_close, self._torn):
            if always is not None and all(start.files != always.files for start in starts):
                starts.append(always)
        for start in starts:
            if self.recorder.enough():
                return
            tally.recoveries += 1
            tape = msgspec.structs.replace(
                start, steps=(Call(recovery or self.target.heartbeat()),), share=_RECOVERY_SHARE
            )
            self._try_tape(tape, reader, tally)
            if self._is_program:
                continue
            for action in (OPEN, recovery) if recovery else (OPEN,):
                try:
                    begin = sweep.start_from(reader.configuration, action, start.files, start.view, start.prelude)
                except Violation as violation:
                    steps = start.prelude if action == OPEN else (*start.prelude, Call(action))
                    self._found(violation, Scenario(self.target.name, reader.configuration, steps))
                    continue
                points = list(sweep.points_of(reader.configuration, begin))
                for point in self._sampled(points, _RECOVERY_SHARE, _RECOVERY_FAULTS, tally):
                    if self.recorder.enough():
                        return
                    sweep.try_point(reader.configuration, point)

    # -- findings ------------------------------------------------------------------------------------------

    def _found(self, violation: Violation, scenario: Scenario) -> None:
        """Record a finding by its shortest scenario: one for each check, kind of crash, and with or without a fault.

        A store that syncs nothing fails at every second state, which would be too many scenarios to read.
        """
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
        return shortest(violation, scenario, self.target, self.directory / "minimise", self.seed)


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


def _kind_of_operation(point: Point) -> object:
    return point.series.kind, point.series.role


def _changing(sweep: Sweep, configuration: Configuration, start: Start) -> list[Point]:
    """One-shot faults of the operations that change files, one effect of each."""
    return [
        point
        for point in sweep.points_of(configuration, start)
        if _CHANGES.get(point.series.kind) == point.series.effect and not point.is_sticky
    ]
