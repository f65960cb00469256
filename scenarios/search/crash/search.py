"""The crash search: trace once, replay many. Every disk state that a crash could have left is opened and judged.

Method, for each configuration:

1. The workload is played once, and recorded. At each position of the tape the process dies, or the power fails in each
   way that `faults.CrashStates` knows; equal disks are read once, and judged by the answers that callers had at that
   position.
2. Each call is made to fail by single faults of operations that change files, then one more change is made: a crash may
   bring back a failed change only where the measured rules allow it. After a fault of a plain file the call is then
   made again, as a caller does that tries again.
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
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.crash.reader import CrashReader
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.preflight.same_path import are_joined
from tornpage.scenarios.execution.session_in_use import CLOSE, OPEN
from tornpage.scenarios.model.events import CrashesTried, PointTried
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Call, Clear, Restart, Scenario, Step
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Need, Part, cut
from tornpage.scenarios.search.crash.latent import WAYS, from_here_on, latent_faults
from tornpage.scenarios.search.crash.played import Tape
from tornpage.scenarios.search.crash.tapes import WORKLOADS, TapeSearch
from tornpage.scenarios.search.forecast import Forecast
from tornpage.scenarios.search.points import Point
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
# So many states of a call are tried to foretell the time of all.
_FORETOLD: Final = 20


class CrashSearch(TapeSearch):
    """Searches the crash states of one target over configurations; reports findings to a `Recorder`."""

    name = "crash"

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many states of a call, and on which device."""
        return {"most_states_per_call": plan.profile.crash_states, "device": plan.device, "latent": plan.latent}

    def company(self) -> contextlib.AbstractContextManager[object]:
        """The recording of the workload, which its parts share."""
        return WORKLOADS.kept()

    def parts(self) -> Iterator[Part]:
        """Some calls of the workload in each configuration, with the recoveries after them; then calls after faults."""
        for configuration in self.configurations:
            kinds = ((_WORKLOAD, _STEPS_A_PART), (_AFTER_FAULTS, _FAULTED_A_PART))
            for kind, size in kinds[:1] if self.is_program else kinds:
                # One more step closes the store.
                yield from cut(configuration, len(self.calls) + 1, size, kind)
            if self.latent:
                yield from cut(configuration, 1, 1, _LATENT)

    def search(self, part: Part) -> bool:
        """Try every state of the part."""
        configuration = part.configuration
        reader = CrashReader(self.target, configuration)
        tally = CrashesTried(self.target.name, configuration)
        self.starts, self.after_close, self.torn = [], None, None
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
        if not self.calls:
            yield Need("calls of the workload", f"{self.target.name} has a workload without calls")
        yield Need("states", "no crash state was tried")

    def forecast(self, part: Part) -> Forecast:
        """About how many states are tried if every state is wanted, and how long one takes: a few of each call are."""
        most, self.most_states_per_call, self.is_forecast = self.most_states_per_call, _FORETOLD, True
        self.foretold, self.recordings_s, self.each_s = 0.0, 0.0, []
        try:
            self.search(part)
        finally:
            self.most_states_per_call, self.is_forecast = most, False
        # Most disks equal one that was read before; the first ones do not, and take the longest.
        each_s = statistics.median(self.each_s or [0.0])
        return Forecast(round(self.foretold), each_s + self.recordings_s / max(self.foretold, 1))

    # -- one part ------------------------------------------------------------------------------------------

    def _over_workload(self, reader: CrashReader, tally: CrashesTried, part: Part) -> None:
        """The states of some steps of the workload, and the recoveries from them."""
        self.try_tape(Tape(self.calls, part=part), reader, tally)
        if not tally.broken:
            self._recoveries(self.starts, reader, tally)

    # -- after a fault -------------------------------------------------------------------------------------

    def _after_faults(self, reader: CrashReader, tally: CrashesTried, part: Part) -> None:
        """Each call under single faults of file-changing operations, then one more change; then the crashes."""
        sweep, beat = self._sweep(reader.configuration), Call(self.target.heartbeat())
        for start in sweep.starts(reader.configuration, part):
            if start.action in (OPEN, CLOSE):
                continue
            before = self.calls[: start.step - 1] or (Restart(),)
            changing = _changing(sweep, reader.configuration, start)
            chosen = self.sampled(changing, _FAULTED_SHARE, _FAULTS, tally, _kind_of_operation)
            many = self.stands_for(changing, chosen)
            for point in (*chosen, *_of_files_missing(chosen, changing)):
                if self.recorder.enough():
                    return
                self._after_fault(point, before, beat, reader, tally, None, many)
            syncs = self._failed_syncs(sweep, reader.configuration, start)
            chosen = self.sampled(syncs, self._dropped_share, _FAULTS, tally)
            many, device = self.stands_for(syncs, chosen), replace(self.device, failed_sync="drops")
            for point in chosen:
                if self.recorder.enough():
                    return
                self._after_fault(point, before, beat, reader, tally, device, many)

    def _after_fault(
        self,
        point: Point,
        before: tuple[Step, ...],
        beat: Call,
        reader: CrashReader,
        tally: CrashesTried,
        device: faults.Device | None,
        stands_for: float,
    ) -> None:
        start = point.start
        tape = Tape(
            (point.step, Call(start.action), Clear(), beat),
            (*before, Restart(crash=True)),
            start.files,
            start.before,
            self._dropped_share if device else _FAULTED_SHARE,
            device=device,
            stands_for=stands_for,
        )
        repeats, broken = point.series.kind.startswith("file-"), tally.broken
        # What the failed call has left of a file may be taken for a whole one when the call is made again.
        again = msgspec.structs.replace(tape, steps=(*tape.steps, Call(start.action)))
        came_to = self.try_tape(again if repeats else tape, reader, tally)
        if repeats and tally.broken > broken:
            tally.broken = broken
            came_to = self.try_tape(tape, reader, tally)
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
        restarted = tuple(step for call in self.calls for step in (call, Restart()))
        for steps in (self.calls, restarted):
            recording, _ = self.played(Tape(steps), configuration)
            them = latent_faults(recording, self.generator) if recording else []
            for way in WAYS:
                of_this_way = [one for one in them if one[1].way == way]
                for number, damage in self.sampled(of_this_way, 2 * len(WAYS), _LATENT_FAULTS, tally):
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
            self.found(violation, scenario)
        return not counts["latent_unmet"]

    # -- recovery ------------------------------------------------------------------------------------------

    def _recoveries(self, met: list[Tape], reader: CrashReader, tally: CrashesTried) -> None:
        """Start from distinct crash states: boot and recovery crash in their turn, and are swept with faults."""
        sweep = self._sweep(reader.configuration)
        recovery = self.target.recovery
        workloads = sum(1 for _ in cut(reader.configuration, len(self.calls) + 1, _STEPS_A_PART))
        starts = list(self.sampled(met, _RECOVERY_SHARE * workloads, _STARTS, tally))
        many = self.stands_for(met, starts)
        for always in (self.after_close, self.torn):
            if always is not None and all(start.files != always.files for start in starts):
                starts.append(always)
        for start in starts:
            if self.recorder.enough():
                return
            tally.recoveries += 1
            tape = msgspec.structs.replace(
                start,
                steps=(Call(recovery or self.target.heartbeat()),),
                share=_RECOVERY_SHARE,
                stands_for=many,
            )
            self.try_tape(tape, reader, tally)
            if self.is_program:
                continue
            for action in (OPEN, recovery) if recovery else (OPEN,):
                try:
                    begin = sweep.start_from(reader.configuration, action, start.files, start.view, start.prelude)
                except Violation as violation:
                    steps = start.prelude if action == OPEN else (*start.prelude, Call(action))
                    self.found(violation, Scenario(self.target.name, reader.configuration, steps))
                    continue
                points = list(sweep.points_of(reader.configuration, begin))
                for point in self.sampled(points, _RECOVERY_SHARE, _RECOVERY_FAULTS, tally):
                    if self.recorder.enough():
                        return
                    sweep.try_point(reader.configuration, point)


def _kind_of_operation(point: Point) -> object:
    return point.series.kind, point.series.role


def _of_files_missing(chosen: Sequence[Point], them: Sequence[Point]) -> list[Point]:
    """A point of each kind of operation on plain files that fails undone, where none is chosen: each has defects."""
    undone = [point for point in them if point.series.kind.startswith("file-") and point.series.timing == "before"]
    kinds = {_kind_of_operation(point) for point in chosen if point.series.timing == "before"}
    first = {_kind_of_operation(point): point for point in reversed(undone)}
    return [point for kind, point in first.items() if kind not in kinds]


def _changing(sweep: Sweep, configuration: Configuration, start: Start) -> list[Point]:
    """One-shot faults of the operations that change files, one effect of each."""
    return [
        point
        for point in sweep.points_of(configuration, start)
        if _CHANGES.get(point.series.kind) == point.series.effect and not point.is_sticky
    ]
