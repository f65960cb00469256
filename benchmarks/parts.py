"""The parts of a run: the lines that each one measures, the amounts, and the requirements."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from benchmarks import apsw_cost, ledger_cost, ledger_size, peers, schedules, searches
from benchmarks.crash_states import CrashDisks
from benchmarks.fault_points import FaultPoints
from benchmarks.measuring import Ratio
from benchmarks.shim_cost import nothing_armed

from tornpage import faults
from tornpage.scenarios.model.scenario import CALLERS
from tornpage.scenarios.model.target import Configuration

_CONFIGURATIONS = ("wal/FULL", "delete/EXTRA")


class Size(msgspec.Struct, frozen=True):
    """How much is measured; `chunks` on disk, and ten times as many in memory, where one takes a fraction of a ms."""

    rounds: int
    chunks: int
    # Rounds of what takes long.
    few_rounds: int
    points_per_call: int
    # Of a tape's blocks of ten positions, one in so many is gone along.
    every: int
    # Of the sweep that is repeated: how many times its ten calls, and the points of each.
    blocks: int
    swept_points_per_call: int
    restored_tasks: int
    batched_updates: int
    many_tasks: int
    few_tasks: int
    # What is given to `tornpage check`; nothing: what it does by default.
    check: tuple[str, ...] = ()


FULL: Final = Size(
    rounds=7,
    chunks=20,
    few_rounds=3,
    points_per_call=30,
    every=1,
    blocks=10,
    swept_points_per_call=20,
    restored_tasks=100_000,
    batched_updates=1_000,
    many_tasks=1_000_000,
    few_tasks=1_000,
)
QUICK: Final = Size(
    rounds=3,
    chunks=2,
    few_rounds=1,
    points_per_call=2,
    every=40,
    blocks=2,
    swept_points_per_call=1,
    restored_tasks=500,
    batched_updates=50,
    many_tasks=1_000,
    few_tasks=100,
    check=("--target", "json-file", "--configuration", "file/FULL"),
)


class Bench(msgspec.Struct, frozen=True):
    """Where a run measures, and how much; the places by what to call them, the disk first."""

    places: Mapping[str, Path]
    size: Size

    def each(self) -> Iterator[tuple[str, Path, int, bool]]:
        """Every place with its directory, how many chunks to measure there, and whether it is the disk."""
        for number, (place, home) in enumerate(self.places.items()):
            yield place, home, self.size.chunks * (10 if number else 1), not number

    def in_memory(self) -> tuple[str, Path]:
        """The place in memory, where searches run when they can; the disk where there is none."""
        return list(self.places.items())[-1]

    def directory(self, home: Path, name: str) -> Path:
        """A directory for one part, made."""
        made = home / name.replace("/", "-")
        made.mkdir(exist_ok=True)
        return made


def _shim(bench: Bench) -> Iterator[Ratio]:
    for place, home, chunks, is_disk in bench.each():
        yield nothing_armed(home, place, rounds=bench.size.rounds, chunks=chunks, aim=1.15 if is_disk else None)


def _apsw(bench: Bench) -> Iterator[Ratio]:
    place, home = bench.in_memory()
    for mode in ("delete", "wal"):
        chunks = 25 * bench.size.chunks
        yield apsw_cost.per_operation(home, place, mode, rounds=bench.size.rounds, chunks=chunks)


def _points(bench: Bench) -> Iterator[Ratio]:
    place, home = bench.in_memory()
    for name in _CONFIGURATIONS:
        work = bench.directory(home, name)
        # What is loaded is left alone by the garbage collector, as in a campaign.
        with faults.frozen():
            points = FaultPoints(Configuration.parse(name), work, place, points_per_call=bench.size.points_per_call)
            yield from points.measure(bench.size.rounds)


def _states(bench: Bench) -> Iterator[Ratio]:
    place, home = bench.in_memory()
    for name in _CONFIGURATIONS:
        work = bench.directory(home, name)
        with faults.frozen():
            disks = CrashDisks(Configuration.parse(name), work, place, every=bench.size.every)
            yield disks.measure(bench.size.rounds)


def _calls(bench: Bench) -> Iterator[Ratio]:
    size = bench.size
    place, _ = bench.in_memory()
    for configuration in (searches.WAL, Configuration("delete", "EXTRA")):
        yield searches.ten_times_the_calls(
            place,
            configuration,
            rounds=size.few_rounds,
            blocks=size.blocks,
            points_per_call=size.swept_points_per_call,
        )


def _schedules(bench: Bench) -> Iterator[Ratio]:
    place, home = bench.in_memory()
    for callers in CALLERS:
        work = bench.directory(home, f"schedules-{callers}")
        rounds, chunks = bench.size.rounds, 2 * bench.size.chunks
        with faults.frozen():
            yield schedules.one_schedule(work, place, callers, rounds=rounds, chunks=chunks)


def _jobs(bench: Bench) -> Iterator[Ratio]:
    place, _ = bench.in_memory()
    yield searches.two_jobs(place, rounds=bench.size.few_rounds, arguments=bench.size.check)


def _update(bench: Bench) -> Iterator[Ratio]:
    for place, home, chunks, is_disk in bench.each():
        aim = 1.5 if is_disk else None
        yield ledger_cost.durable_update(home, place, rounds=bench.size.rounds, chunks=chunks, aim=aim)


def _batch(bench: Bench) -> Iterator[Ratio]:
    for place, home, _, is_disk in bench.each():
        rounds, updates = bench.size.rounds, bench.size.batched_updates
        yield ledger_cost.batch(home, place, rounds=rounds, updates=updates, aim=20.0 if is_disk else None)


def _restore(bench: Bench) -> Iterator[Ratio]:
    place, home = bench.in_memory()
    yield from ledger_size.restore(home, place, rounds=bench.size.rounds, tasks=bench.size.restored_tasks)


def _million(bench: Bench) -> Iterator[Ratio]:
    for place, home, chunks, is_disk in bench.each():
        sizes = ledger_size.Sizes(home, place, many=bench.size.many_tasks, few=bench.size.few_tasks)
        yield from sizes.measure(rounds=bench.size.rounds, chunks=chunks, aim=1.2 if is_disk else None)


def _peers(bench: Bench) -> Iterator[Ratio]:
    for place, home, chunks, is_disk in bench.each():
        race = peers.Race(home, place)
        yield from race.measure(rounds=bench.size.rounds, chunks=chunks, aim=1.0 if is_disk else None)


def _bugs(bench: Bench) -> Iterator[Ratio]:
    place, _ = bench.in_memory()
    yield searches.all_known_bugs(place)


PARTS: Final[Mapping[str, Callable[[Bench], Iterator[Ratio]]]] = {
    "shim": _shim,
    "apsw": _apsw,
    "points": _points,
    "states": _states,
    "calls": _calls,
    "schedules": _schedules,
    "jobs": _jobs,
    "update": _update,
    "peers": _peers,
    "batch": _batch,
    "restore": _restore,
    "million": _million,
    "bugs": _bugs,
}
"""By name, in the order in which they are measured."""


def left_out(part: str, *, quick: bool) -> str:
    """Why a part can't be measured now, "" where it can."""
    if part == "bugs" and quick:
        return "it takes minutes however few bugs there are"
    absent = peers.missing() if part == "peers" else apsw_cost.missing() if part == "apsw" else []
    return f"not installed: {', '.join(absent)} (the dependency group bench)" if absent else ""
