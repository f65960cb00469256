"""The work of a fault point and of a call of the ledger, in counts that do not depend on load.

Counted are SQLite's calls of its VFS, the statements that it runs (also those of readers that bypass the shim) and the
calls of Python functions. They are the same in every run of one Python and one SQLite; between versions they differ by
some per cent. `counts.json` has the accepted counts; a test fails if one has grown by more than `TOLERANCE`.

``python -m benchmarks.counts`` prints the counts, and which have grown; ``--write`` saves them.

Not covered: times.
"""

import json
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final

from benchmarks.ledgers import NOW_MS

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.ledger import Ledger
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Part
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.targets.registry import find

KEPT: Final = Path(__file__).with_name("counts.json")
TOLERANCE: Final = 0.1
_STATEMENTS: Final = frozenset({"execute", "executemany", "executescript"})
_TIMES: Final = 10
_POINTS: Final = 60
# Calls of the workload that create, change and end tasks.
_CALLS: Final = (2, 6)

Counts = dict[str, float]


class _Counter:
    """Counts calls of Python functions, and of the methods of SQLite's module that run statements."""

    def __init__(self) -> None:
        self.calls = self.statements = 0

    def __call__(self, _frame: FrameType, event: str, argument: Any) -> None:
        """Count one event of the profiler."""
        if event == "call":
            self.calls += 1
        elif event == "c_call" and getattr(argument, "__name__", "") in _STATEMENTS:
            self.statements += 1


def _counted(do: Callable[[int], object], times: int) -> Counts:
    """What `do` does for each of so many times; it is called twice, since counting operations makes calls, too."""
    with faults.count_operations() as operations:
        do(0)
    counter = _Counter()
    sys.setprofile(counter)
    try:
        do(1)
    finally:
        sys.setprofile(None)
    return {
        "operations": round(sum(operations.counts.values()) / times, 1),
        "statements": round(counter.statements / times, 1),
        "python_calls": round(counter.calls / times, 1),
    }


def of_ledger_calls() -> dict[str, Counts]:
    """Each kind of call, the mean of ten."""
    ids, ticks = count(), count(NOW_MS)
    with (
        tempfile.TemporaryDirectory() as home,
        faults.install(),
        Ledger.open(Path(home), clock=ticks.__next__, new_id=lambda: f"id-{next(ids)}") as ledger,
        ledger.workers.hold("sender") as worker,
    ):
        tasks, outbox = ledger.tasks, ledger.outbox
        calls: dict[str, Callable[[str], object]] = {
            "tasks.create": lambda _: tasks.create(runtime="cli", requester_session_key="main", task="work"),
            "tasks.start": tasks.start,
            "tasks.finish": lambda name: tasks.finish(name, "succeeded"),
            "outbox.enqueue": lambda name: outbox.enqueue(channel="mail", target="you", payload={}, message_id=name),
            "outbox.claim": lambda name: outbox.claim(name, worker.id),
            "outbox.ack": outbox.ack,
        }

        def ten(call: Callable[[str], object], turn: int) -> None:
            for number in range(_TIMES):
                call(f"id-{1 + turn * _TIMES + number}")

        # The first call of each kind prepares what later ones find.
        for call in calls.values():
            call("id-0")
        return {f"ledger {what}": _counted(partial(ten, call), _TIMES) for what, call in calls.items()}


def of_points() -> dict[str, Counts]:
    """A fault point of the reference's sweep in each of two configurations, the mean of sixty drawn by a seed."""
    return {f"fault point, {one}": _of_points(one) for one in find("reference").configurations[:2]}


def _of_points(configuration: Configuration) -> Counts:
    with tempfile.TemporaryDirectory() as home, faults.install() as shim, shim.deterministic():
        sweep = Sweep(find("reference"), Recorder(), Path(home), configurations=(configuration,))
        starts = list(sweep.starts(configuration, Part(configuration, *_CALLS)))
        points = [point for start in starts for point in sweep.points_of(configuration, start)]
        drawn = random.Random(1).sample(points, 2 * _POINTS)  # noqa: S311 - the same points each time

        def sixty(turn: int) -> None:
            for point in drawn[turn * _POINTS : (turn + 1) * _POINTS]:
                sweep.try_point(configuration, point)

        return _counted(sixty, _POINTS)


def measured() -> dict[str, Counts]:
    """All of it."""
    return of_ledger_calls() | of_points()


def versions() -> dict[str, str]:
    """What the counts belong to: the calls to a Python, the operations and statements to a SQLite."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), "sqlite": sqlite3.sqlite_version}


def grown(now: dict[str, Counts], kept: Mapping[str, Any]) -> list[str]:
    """What has grown by more than the tolerance since it was kept, or is new, a line each.

    What belongs to another Python or another SQLite is not compared.
    """
    mine = versions()
    compared = {"python_calls"} if kept["versions"]["python"] == mine["python"] else set[str]()
    compared |= {"operations", "statements"} if kept["versions"]["sqlite"] == mine["sqlite"] else set()
    lines = []
    for what, counts in now.items():
        for name, value in counts.items():
            was = kept["counts"].get(what, {}).get(name)
            if name in compared and (was is None or value > was * (1 + TOLERANCE)):
                lines.append(f"{what}: {value:,} {name}, kept {was}")
    return lines


def main() -> None:
    """Print, or keep."""
    now = measured()
    if "--write" in sys.argv[1:]:
        KEPT.write_text(json.dumps({"versions": versions(), "counts": now}, indent=2) + "\n")
    for what, counts in now.items():
        print(f"{what}: {', '.join(f'{value:,} {name}' for name, value in counts.items())}")
    print("\n".join(grown(now, json.loads(KEPT.read_text()))) or "none has grown")


if __name__ == "__main__":
    main()
