"""``python -m benchmarks``: every ratio, measured side by side in one run, as a table or as JSON."""

import contextlib
import os
import platform
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.crash_states import CrashDisks
from benchmarks.fault_points import FaultPoints
from benchmarks.ledger_cost import durable_update
from benchmarks.measuring import Ratio
from benchmarks.shim_cost import every_operation_watched, nothing_armed
from scenarios.target import Configuration

_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
_CONFIGURATIONS = ("wal/FULL", "delete/EXTRA")


class Size(msgspec.Struct, frozen=True):
    """How much is measured; `chunks` on disk, and ten times as many in memory, where one takes a fraction of a ms."""

    rounds: int
    chunks: int
    points_per_call: int
    # Of a tape's blocks of ten positions, one in so many is gone along.
    every: int


_FULL = Size(rounds=7, chunks=20, points_per_call=30, every=1)
_QUICK = Size(rounds=3, chunks=4, points_per_call=4, every=20)


def file_system(path: Path) -> str:
    """The kind of file system that a path is on, such as ext4; "unknown" where the system doesn't say."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    mounts = {fields[1]: fields[2] for fields in map(str.split, lines)}
    return next((mounts[str(one)] for one in (path, *path.parents) if str(one) in mounts), "unknown")


def disk() -> Path:
    """A directory on a disk: the system's temporary one, or the working directory where that is in memory."""
    temporary = Path(tempfile.gettempdir()).resolve()
    return Path() if file_system(temporary) in ("tmpfs", "ramfs") else temporary


@contextlib.contextmanager
def _places(directory: Path) -> Iterator[dict[str, Path]]:
    """A directory of ours on disk, and one in memory where the system has such a place, by what to call them."""
    with contextlib.ExitStack() as scopes:
        roots = {f"disk ({file_system(directory.resolve())})": directory}
        if _MEMORY.is_dir():
            roots[f"memory ({file_system(_MEMORY)})"] = _MEMORY
        yield {
            name: Path(scopes.enter_context(tempfile.TemporaryDirectory(prefix="tornpage-benchmark-", dir=root)))
            for name, root in roots.items()
        }


def measured(directory: Path, size: Size, console: Console) -> tuple[list[Ratio], float]:
    """Every line of the table, and the cost of one watched operation in microseconds."""
    found: list[Ratio] = []

    def keep(ratio: Ratio) -> None:
        found.append(ratio)
        console.print(f"{ratio.name} on {ratio.place}: {ratio.median:.2f}", highlight=False, soft_wrap=True)

    with _places(directory) as places:
        chunks = {place: size.chunks if place.startswith("disk") else 10 * size.chunks for place in places}
        for place, home in places.items():
            keep(nothing_armed(home, place, rounds=size.rounds, chunks=chunks[place]))
        # A sweep runs in memory where it can, so that is where its points are measured.
        place, home = list(places.items())[-1]
        for name in _CONFIGURATIONS:
            work = home / name.replace("/", "-")
            work.mkdir()
            points = FaultPoints(Configuration.parse(name), work, place, points_per_call=size.points_per_call)
            for ratio in points.measure(size.rounds):
                keep(ratio)
            keep(CrashDisks(Configuration.parse(name), work, place, every=size.every).measure(size.rounds))
        ratio, per_operation_us = every_operation_watched(home, place, rounds=size.rounds, chunks=chunks[place])
        keep(ratio)
        for place, home in places.items():
            keep(durable_update(home, place, rounds=size.rounds, chunks=chunks[place]))
    return found, per_operation_us


def as_table(ratios: list[Ratio], per_operation_us: float) -> Table:
    """The table for people."""
    table = Table(
        title="ratios, each measured side by side",
        title_justify="left",
        caption=f"a watched operation costs {per_operation_us:.1f} µs more than one that isn't",
        caption_justify="left",
    )
    for name in ("what", "where", "against"):
        table.add_column(name)
    for name in ("ratio", "lowest to highest", "µs", "theirs µs", "aim"):
        table.add_column(name, justify="right")
    for one in ratios:
        aim = "" if one.aim is None else f"≤ {one.aim} {'holds' if one.holds else 'MISSED'}"
        spread = f"{one.lowest:.2f} to {one.highest:.2f}"
        table.add_row(
            one.ours,
            one.place,
            one.theirs,
            f"{one.median:.2f}",
            spread,
            f"{one.ours_us:,.0f}",
            f"{one.theirs_us:,.0f}",
            aim,
        )
    return table


def as_data(ratios: list[Ratio], per_operation_us: float, *, quick: bool) -> dict[str, Any]:
    """The same as JSON-like data."""
    return {
        "quick": quick,
        "python_version": platform.python_version(),
        "sqlite_version": sqlite3.sqlite_version,
        "cpus": os.cpu_count(),
        "watched_operation_us": per_operation_us,
        "ratios": [{**msgspec.structs.asdict(ratio), "holds": ratio.holds} for ratio in ratios],
    }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--quick", is_flag=True, help="A few seconds instead of a few minutes; only to see that it runs.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=disk,
    help="Where to measure on disk; a directory is made there and taken away.  [default: the temporary directory]",
)
def main(as_json: bool, quick: bool, directory: Path) -> None:
    """Print what the shim, a fault point, a crash state and the ledger cost, as ratios measured side by side."""
    ratios, per_operation_us = measured(directory, _QUICK if quick else _FULL, Console(stderr=True))
    if as_json:
        data = as_data(ratios, per_operation_us, quick=quick)
        click.echo(msgspec.json.format(msgspec.json.encode(data)).decode())
    else:
        Console(width=140, highlight=False).print(as_table(ratios, per_operation_us))


if __name__ == "__main__":
    main()
