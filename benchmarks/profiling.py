"""``python -m benchmarks.profiling SUBJECT``: profiles one line of the table with cProfile.

Only our side is profiled, in memory if possible, so that there is no waiting for a disk. A profiler slows Python calls
more than work in C, so the shares are approximate; the CPU time at the top is measured without it.
"""

import cProfile
import ctypes
import pstats
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec
from benchmarks import ledgers, peers, searches
from benchmarks.crash_states import CrashDisks
from benchmarks.measuring import Side, Spent
from benchmarks.places import disk, places

from tornpage.ledger import Ledger
from tornpage.scenarios.model.plan import PROFILES
from tornpage.scenarios.model.target import Configuration

_PIECES = 1_000
_LINES = 14
_DELETE = Configuration("delete", "EXTRA")
_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "src" / "tornpage"


class Subject(NamedTuple):
    """A subject: the work, its number of pieces, and the name of a piece."""

    work: Side
    pieces: int
    piece: str


@contextmanager
def _updates(home: Path, tasks: int, *, batched: bool = False) -> Iterator[Subject]:
    ledgers.fill(home, tasks)
    generator = random.Random(tasks)  # noqa: S311 - a sample
    keys = [ledgers.task_id(generator.randrange(tasks)) for _ in range(_PIECES)]
    ticks = count(2 * ledgers.NOW_MS)
    with Ledger.open(home, clock=ticks.__next__) as ledger:

        def update() -> None:
            for key in keys:
                ledger.tasks.progress(key, f"at {next(ticks)}")

        def batch() -> None:
            with ledger.batch():
                update()

        yield Subject(batch if batched else update, _PIECES, "update")


@contextmanager
def _restore(home: Path) -> Iterator[Subject]:
    ledgers.fill(home, 100_000)
    with Ledger.open(home) as ledger:
        yield Subject(ledger.tasks.restore, 100_000, "task")


@contextmanager
def _jobs(home: Path, name: str) -> Iterator[Subject]:
    contender = peers.OURS[name](home)
    try:
        yield Subject(lambda: contender.jobs(_PIECES), 3 * _PIECES, "call")
    finally:
        contender.close()


@contextmanager
def _sweep(_home: Path, blocks: int, configuration: Configuration = searches.WAL) -> Iterator[Subject]:
    points_per_call = 10
    profile = msgspec.structs.replace(PROFILES["quick"], points_per_call=points_per_call)
    _, points = searches.searched("sweep", blocks, profile, configuration)
    yield Subject(lambda: searches.searched("sweep", blocks, profile, configuration), points, "point")


@contextmanager
def _states(home: Path, configuration: Configuration) -> Iterator[Subject]:
    disks = CrashDisks(configuration, home, "", every=6)
    pieces = disks.judged()
    yield Subject(disks.judged, pieces, "directory")


@contextmanager
def _callback(_home: Path, *, through: bool) -> Iterator[Subject]:
    """C that calls Python, by ctypes; with `through` the Python calls a function of C as well."""
    library = ctypes.CDLL(None)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    in_c = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(("abs", library))
    calls = 0

    def count_calls(_one: int, _other: int) -> int:
        nonlocal calls
        calls += 1
        return 0

    def sort(function: Callable[[int, int], int]) -> None:
        numbers = (ctypes.c_int * 100_000)()
        library.qsort(numbers, ctypes.c_size_t(len(numbers)), ctypes.c_size_t(4), kind(function))

    sort(count_calls)
    yield Subject(lambda: sort((lambda _one, _other: in_c(0)) if through else (lambda _one, _other: 0)), calls, "call")


SUBJECTS: Final[Mapping[str, Callable[[Path], AbstractContextManager[Subject]]]] = {
    "update": lambda home: _updates(home, _PIECES),
    "million": lambda home: _updates(home, 1_000_000),
    "batch": lambda home: _updates(home, _PIECES, batched=True),
    "restore": _restore,
    "tasks": lambda home: _jobs(home, "ledger, tasks"),
    "outbox": lambda home: _jobs(home, "ledger, outbox"),
    "points": lambda home: _sweep(home, 1),
    "points-delete": lambda home: _sweep(home, 1, _DELETE),
    "calls": lambda home: _sweep(home, 10),
    "states": lambda home: _states(home, searches.WAL),
    "states-delete": lambda home: _states(home, _DELETE),
    "callback": lambda home: _callback(home, through=False),
    "callback-through": lambda home: _callback(home, through=True),
}


def profiled(subject: Subject) -> Iterator[str]:
    """The CPU time of a piece, then the functions with most time of their own, in µs of a piece, and the rooms."""
    subject.work()
    spent = Spent().on(subject.work)
    yield f"{1e6 * spent.cpu_s / subject.pieces:,.2f} µs CPU a {subject.piece}, without the profiler; with it:"
    profile = cProfile.Profile(time.process_time)
    profile.runcall(subject.work)
    lines = [
        (own_s, calls, f"{_shown(file)}{f':{line} ' if line else ''}{name}")
        for (file, line, name), (_, calls, own_s, _, _) in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
    ]
    for own_s, calls, name in sorted(lines, reverse=True)[:_LINES]:
        yield f"{1e6 * own_s / subject.pieces:10,.2f} µs  {calls / subject.pieces:8,.2f} calls  {name}"
    rooms: Counter[str] = Counter()
    for own_s, _, name in lines:
        rooms[_room(name)] += own_s
    yield ", ".join(f"{room} {own_s / rooms.total():.0%}" for room, own_s in rooms.most_common())


def _room(name: str) -> str:
    """Whose time it is: SQLite's, where its driver is called, a package's, or Python's own."""
    if "sqlite3." in name or "WatchedCursor" in name or "WatchedConnection" in name:
        return "SQLite"
    if name.startswith("scenarios/targets/"):
        return "targets"
    first = name.partition("/")[0]
    return first if first in ("ledger", "faults", "scenarios", "benchmarks") else "Python"


def _shown(file: str) -> str:
    """A file from the root of the source tree, a built-in without one, others by their last two names."""
    path = Path(file)
    if path.is_relative_to(_PACKAGE):
        return str(path.relative_to(_PACKAGE))
    if path.is_relative_to(_ROOT):
        return str(path.relative_to(_ROOT))
    return "" if file == "~" else str(Path(*path.parts[-2:]))


@click.command()
@click.argument("name", type=click.Choice(tuple(SUBJECTS)))
def main(name: str) -> None:
    """Print where one line of the benchmarks spends its time."""
    with places(disk()) as homes:
        home = list(homes.values())[-1] / name
        with SUBJECTS[name](home) as subject:
            for line in profiled(subject):
                click.echo(line)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
