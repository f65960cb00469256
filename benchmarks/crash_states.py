"""The cost of a crash state with the harness, against the bare steps: write the files, open, integrity_check, read.

The reference's workload of task calls is run and recorded once. A round covers the whole tape. Ours: enumerate the
crashes at a position, build the directory that each leaves, find equal ones, then run the plain reader, the target's
own opening of each new kind of state, and the verdict. Theirs: the distinct directories of the same positions,
made before the clock starts, each written, opened, checked and read by straight-line code. Both in turns, position by
position; a round's ratio is that of the two sums.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bare import connect, rows
from benchmarks.fault_points import Measured
from benchmarks.measuring import Ratio, Round, Spent, summed_up

from tornpage import faults
from tornpage.scenarios.execution.crash.reader import CrashReader
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.model.scenario import Call
from tornpage.scenarios.model.target import Configuration

_AIM = 1.25


class CrashDisks:
    """Measures the crash states of the reference at one configuration; of the tape every `every`-th block of ten."""

    def __init__(self, configuration: Configuration, directory: Path, where: str, *, every: int) -> None:
        self.place = f"{where}, {configuration}"
        self.directory = directory
        self.every = every
        self.target = Measured()
        with faults.install(), faults.shims().deterministic():
            executor = Executor(self.target, configuration, directory / "recorded", record=True)
            with executor:
                for action in self.target.workload():
                    executor.do(Call(action))
                executor.close_session()
            assert executor.recording is not None
            self.recording: Recording = executor.recording

    def measure(self, rounds: int) -> Ratio:
        """The line of the table."""
        found = [self._round() for _ in range(rounds)]
        sides = "crash state", "write the files, open, integrity_check, read"
        return summed_up("crash state", self.place, sides, found, per="disk", aim=_AIM)

    def _round(self) -> Round:
        reader = self.recording.reader()
        ours_states, theirs_states = self._states(), self._states()
        known: set[object] = set()
        ours, theirs = Spent(), Spent()
        for position in self._positions():
            # The same directories, from separate states: caches of one side don't help the other.
            disks = [dict(state.files) for state in _new(theirs_states.power(position), known)]
            if position % 2:
                theirs.on(functools.partial(self._bare, disks))
            with faults.install():
                ours.on(functools.partial(self._ours, ours_states, reader, position))
            if not position % 2:
                theirs.on(functools.partial(self._bare, disks))
        if reader.read != len(known):
            raise RuntimeError(f"the harness read {reader.read} directories, the bare steps {len(known)}")
        return Round(ours, theirs, len(known))

    def _positions(self) -> Iterator[int]:
        return (one for one in range(len(self.recording.tape) + 1) if one // 10 % self.every == 0)

    def _states(self) -> faults.CrashStates:
        return faults.CrashStates(self.recording.base, self.recording.tape.operations)

    def _ours(self, states: faults.CrashStates, reader: CrashReader, position: int) -> None:
        for state in states.power(position):
            self.recording.judge(state, reader)

    def judged(self) -> int:
        """Make and judge every state once; how many different directories were read."""
        states, reader = self._states(), self.recording.reader()
        with faults.install():
            for position in self._positions():
                self._ours(states, reader, position)
        return reader.read

    def _bare(self, disks: list[Files]) -> None:
        home = self.directory / "bare"
        for files in disks:
            place(files, home)
            if "ledger.sqlite" not in files:
                continue
            with contextlib.closing(connect(home)) as connection:
                connection.execute("PRAGMA integrity_check").fetchall()
                if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'message_outbox'").fetchall():
                    rows(connection)


def _new(states: Iterator[faults.State], known: set[object]) -> Iterator[faults.State]:
    for state in states:
        if state.identity not in known:
            known.add(state.identity)
            yield state
