"""``python -m benchmarks.growth``: the growth of costs with the workload, with the ledger and with the workers.

Measured once each, one after another, the smallest first; so unlike the ratios of ``python -m benchmarks`` a figure
here may be affected by other load on the machine. Only the shape over decades counts.

- *Workload*: the sweep, and the crash states, of the same ten calls once, ten times and a hundred times over, with as
  many points of each call: milliseconds for a call.
- *Ledger*: 1,000 to 1,000,000 tasks: restore, the first page of an audit, one update, and the memory of a task in
  bytes, by tracemalloc: allocated after the ledger is open, and the peak while it opens.
- *Workers*: ``tornpage check --jobs 1`` and ``--jobs 2``, in seconds.

The figures are written to ``growth.json`` in a directory, the plots beside it; ``--draw`` only draws existing figures.
"""

import gc
import json
import os
import random
import tempfile
import time
import tracemalloc
from itertools import count
from pathlib import Path
from typing import Any

import click
import msgspec
from benchmarks import ledgers, searches
from benchmarks.measuring import Side
from benchmarks.parts import QUICK
from benchmarks.places import disk, places
from benchmarks.showing import circumstances
from rich.console import Console

from tornpage.ledger import Ledger
from tornpage.scenarios.model.plan import PROFILES

_IMAGES = Path(__file__).parents[1] / "docs" / "images"
_PAGE = 50
_UPDATES = 200


class Extent(msgspec.Struct, frozen=True):
    """How far the curves go."""

    blocks: tuple[int, ...] = (1, 10, 100)
    points_per_call: int = 4
    tasks: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    jobs: tuple[int, ...] = (1, 2)
    check: tuple[str, ...] = ()


_FULL = Extent()
_QUICK = Extent(blocks=(1, 2), points_per_call=1, tasks=(100, 1_000), jobs=(1,), check=QUICK.check)


def by_calls(extent: Extent, console: Console) -> list[dict[str, Any]]:
    """Milliseconds for each call of a workload, swept and crashed."""
    most = extent.points_per_call
    profile = msgspec.structs.replace(PROFILES["quick"], points_per_call=most, crash_states=most)
    found = []
    for blocks in extent.blocks:
        calls = blocks * searches.CALLS_A_BLOCK
        line: dict[str, Any] = {"calls": calls}
        for search in ("sweep", "crash"):
            spent, _ = searches.searched(search, blocks, profile)
            line[f"{search}_ms_per_call"] = _rounded(1e3 * spent.wall_s / calls)
        console.print(f"{line}", highlight=False)
        found.append(line)
    return found


def by_tasks(extent: Extent, homes: dict[str, Path], console: Console) -> list[dict[str, Any]]:
    """What a ledger of each size costs."""
    found = []
    on_disk, *_, in_memory = [*homes.values(), *homes.values()]
    for tasks in extent.tasks:
        line: dict[str, Any] = {"tasks": tasks}
        home = in_memory / f"growth-{tasks}"
        ledgers.fill(home, tasks)
        line |= _memory(home, tasks)
        line |= _times(home, tasks)
        if on_disk != in_memory:
            home = on_disk / f"growth-{tasks}"
            ledgers.fill(home, tasks)
        line["update_on_disk_us"] = _times(home, tasks)["update_us"]
        console.print(f"{line}", highlight=False)
        found.append(line)
    return found


def _memory(home: Path, tasks: int) -> dict[str, float]:
    gc.collect()
    tracemalloc.start()
    try:
        with Ledger.open(home, clock=lambda: ledgers.NOW_MS):
            gc.collect()
            stays, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return {"bytes_per_task": _rounded(stays / tasks), "peak_bytes_per_task": _rounded(most / tasks)}


def _times(home: Path, tasks: int) -> dict[str, float]:
    ticks = count(ledgers.NOW_MS)
    generator = random.Random(tasks)  # noqa: S311 - a sample
    with Ledger.open(home, clock=ticks.__next__) as ledger:
        restore_s = _best(ledger.tasks.restore)
        audit_s = _best(lambda: ledger.audit(limit=_PAGE))
        keys = [ledgers.task_id(generator.randrange(tasks)) for _ in range(_UPDATES)]
        updates_s = _best(lambda: [ledger.tasks.progress(key, f"at {next(ticks)}") for key in keys])
    return {
        "restore_s": _rounded(restore_s),
        "audit_s": _rounded(audit_s),
        "update_us": _rounded(1e6 * updates_s / _UPDATES),
    }


def _best(work: Side) -> float:
    """The shorter of two times."""
    taken = []
    for _ in range(2):
        gc.collect()
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def by_jobs(extent: Extent, console: Console) -> list[dict[str, Any]]:
    """A whole check with each number of processes."""
    found = []
    for jobs in extent.jobs:
        spent = searches.checked(jobs, *extent.check)
        found.append({"jobs": jobs, "check_s": _rounded(spent.wall_s), "check_cpu_s": _rounded(spent.cpu_s)})
        console.print(f"{found[-1]}", highlight=False)
    return found


def _rounded(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")


def measured(extent: Extent, directory: Path, console: Console) -> dict[str, Any]:
    """All curves."""
    before = os.getloadavg()[0]
    curves: dict[str, Any] = {"calls": by_calls(extent, console)}
    with places(directory) as homes:
        curves["tasks"] = by_tasks(extent, homes, console)
    curves["jobs"] = by_jobs(extent, console)
    return {**circumstances((before, os.getloadavg()[0])), **curves}


@click.command()
@click.option("--quick", is_flag=True, help="Some seconds instead of some minutes; only to see that it runs.")
@click.option("--draw", is_flag=True, help="Measure nothing; draw the plots of the figures that are there.")
@click.option(
    "--to",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Where figures and plots go.  [default: docs/images; with --quick a directory that is taken away]",
)
def main(quick: bool, draw: bool, to: Path | None) -> None:
    """Measure how costs grow, and draw it."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="tornpage-benchmark-") as temporary:
        home = to or (Path(temporary) if quick else _IMAGES)
        figures = home / "growth.json"
        if not draw:
            curves = measured(_QUICK if quick else _FULL, disk(), console)
            figures.write_text(json.dumps(curves, indent=2) + "\n", encoding="utf-8")
        click.echo(figures.read_text(encoding="utf-8"), nl=False)
        try:
            from benchmarks.growth_plots import drawn  # noqa: PLC0415 - matplotlib may be missing, the figures not.
        except ImportError as error:
            console.print(f"nothing is drawn: {error} (the dependency group bench)", highlight=False)
            return
        for path in drawn(json.loads(figures.read_text(encoding="utf-8")), home):
            console.print(f"{path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
