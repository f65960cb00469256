"""What a program in any language still lacks for testing, and the cost of its points: ``tornpage doctor``.

Method. The protocol is played without a fault, in the order in which a program is written: describe, then open, calls,
view and close with the contract of view, rows and beat, in each configuration; then the requirements of faults: strace,
visible system calls, and a run from which power cuts can be made. The first error ends it, with the message of the
searches. At the end one point of each kind is played and timed.
"""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from tornpage import faults
from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.preflight.contract import require_contract
from tornpage.scenarios.execution.syscall_injection import unseen
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Call
from tornpage.scenarios.model.target import Configuration, TargetError
from tornpage.scenarios.search.points import Point
from tornpage.scenarios.search.programs.syscalls import Syscalls
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import ProcessTarget, Program
from tornpage.scenarios.targets.process.program import ProgramError
from tornpage.scenarios.targets.process.rehearsal import rehearse

# So many points of each kind are timed: the first of a process is dearer.
_TIMED: Final = 4


class Examined(msgspec.Struct, frozen=True):
    """One check: its name, the result in words, whether it passed, and how long it took."""

    what: str
    found: str
    is_right: bool = True
    seconds: float = 0.0


def examine(target: ProcessTarget, directory: Path) -> Iterator[Examined]:
    """Examine a program below `directory`, up to the first failed check."""
    yield (started := _started(target))
    if not started.is_right:
        return
    for configuration in target.configurations:
        protocol = functools.partial(_protocol, target, configuration, directory)
        yield (found := _timed(f"protocol at {configuration}", protocol))
        if not found.is_right:
            return
    if reason := why_unavailable():
        yield Examined("strace", f"the syscall depth is not available: {reason}", is_right=False)
        return
    configuration = target.configurations[0]
    yield (found := _timed("power cuts", functools.partial(_power_cuts, target, configuration, directory)))
    if found.is_right:
        yield _timed("system calls", functools.partial(_points, target, configuration, directory))


def _timed(what: str, look: Callable[[], str]) -> Examined:
    began = time.monotonic()
    try:
        found = look()
    except (TargetError, Violation) as error:
        return Examined(what, str(error), is_right=False)
    return Examined(what, found, seconds=time.monotonic() - began)


def _started(target: ProcessTarget) -> Examined:
    began = time.monotonic()
    try:
        program = Program(target.command, target.description.answers_within_s)
    except ProgramError as error:
        # It has described itself before.
        return Examined("describe", str(error), is_right=False)
    seconds = time.monotonic() - began
    program.end()
    described = target.description
    found = f"{len(described.calls)} calls, {len(described.rows)} queries, {', '.join(described.configurations)}"
    return Examined("describe", found, seconds=seconds)


def _protocol(target: ProcessTarget, configuration: Configuration, directory: Path) -> str:
    require_contract(target, configuration, directory / "contract")
    rehearse(target, configuration, directory / "rehearsal")
    return "open, calls, view and close give the same twice; the rows match, and the beat adds one key"


def _power_cuts(target: ProcessTarget, configuration: Configuration, directory: Path) -> str:
    executor = Executor(target, configuration, directory / "recorded", record=True)
    assert executor.recording is not None  # noqa: S101 - asked for above
    with executor:
        for action in target.workload():
            executor.do(Call(action))
        executor.close_session()
        executor.recording.require_faithful()
    return f"can be made: the {len(executor.recording.tape)} recorded operations give the files on disk"


def _points(target: ProcessTarget, configuration: Configuration, directory: Path) -> str:
    search = Syscalls(target, Recorder(), directory / "points", configurations=(configuration,))
    points = [point for start in search.starts(configuration) for point in search.points_of(configuration, start)]
    if not points:
        raise unseen(target)
    kills = [point for point in points if point.series.effect == faults.KILL]
    others = [point for point in points if point.series.effect != faults.KILL]
    error_s, kill_s = (_seconds_of(search, configuration, them[-_TIMED:]) for them in (others, kills))
    total_s = error_s * len(others) + kill_s * len(kills)
    return (
        f"{len(points):,} points at {configuration}; one takes {error_s * 1000:.0f} ms, one that kills "
        f"{kill_s * 1000:.0f} ms: about {max(total_s, 1):.0f} s for all of them, which --profile nightly tries"
    )


def _seconds_of(search: Syscalls, configuration: Configuration, points: list[Point]) -> float:
    began = time.monotonic()
    for point in points:
        try:
            search.play(configuration, point)
        except Violation:
            # A finding, which the searches report.
            continue
    return (time.monotonic() - began) / max(len(points), 1)
