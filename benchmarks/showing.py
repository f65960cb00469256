"""Prints the ratios: as a table in the terminal, as Markdown for the docs, as JSON."""

import importlib.metadata
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from benchmarks.measuring import Ratio
from benchmarks.peers import DISTRIBUTIONS, missing
from rich.table import Table

_HEADERS = ("what", "where", "against", "ratio", "lowest to highest", "CPU time", "µs", "theirs µs", "aim")
_NUMBERS = 3


def circumstances(loads: Sequence[float]) -> dict[str, Any]:
    """What the figures depend on: versions, processors, and the machine's load at the start and at the end."""
    absent = missing()
    return {
        "python_version": platform.python_version(),
        "sqlite_version": sqlite3.sqlite_version,
        "cpus": os.cpu_count(),
        "load_averages": [round(one, 2) for one in loads],
        "peers": {name: importlib.metadata.version(name) for name in DISTRIBUTIONS if name not in absent},
    }


def as_data(
    ratios: Sequence[Ratio], left_out: Mapping[str, str], loads: Sequence[float], *, quick: bool
) -> dict[str, Any]:
    """All of it as JSON-like data."""
    return {
        "quick": quick,
        **circumstances(loads),
        "left_out": dict(left_out),
        "ratios": [{**msgspec.structs.asdict(ratio), "holds": ratio.holds} for ratio in ratios],
    }


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _cells(ratio: Ratio) -> tuple[str, ...]:
    unit = " s" if ratio.unit == "s" else ""
    aim = ""
    if ratio.aim is not None:
        aim = f"{'≥' if ratio.at_least else '≤'} {ratio.aim:g}{unit}: {'holds' if ratio.holds else 'MISSED'}"
    return (
        ratio.ours,
        ratio.place,
        ratio.theirs,
        f"{_number(ratio.median)}{unit}",
        f"{_number(ratio.lowest)} to {_number(ratio.highest)}" if ratio.rounds > 1 else "one round",
        f"{_number(ratio.cpu)}{unit}" if ratio.cpu is not None else "",
        f"{ratio.ours_us:,.1f}" if not unit else "",
        f"{ratio.theirs_us:,.1f}" if not unit else "",
        aim,
    )


def as_table(ratios: Sequence[Ratio], *, quick: bool) -> Table:
    """The table for people."""
    table = Table(title="ratios, each measured side by side", title_justify="left")
    table.caption = "a quick run only shows that everything runs: its figures say nothing" if quick else None
    for place, name in enumerate(_HEADERS):
        table.add_column(name, justify="left" if place < _NUMBERS else "right")
    for one in ratios:
        table.add_row(*_cells(one))
    return table


def as_markdown(ratios: Sequence[Ratio], loads: Sequence[float]) -> str:
    """The same as a table of Markdown, below what the figures depend on."""
    known = circumstances(loads)
    versions = ", ".join(f"{name} {version}" for name, version in known["peers"].items())
    first, last = known["load_averages"]
    lines = [
        f"Python {known['python_version']}, SQLite {known['sqlite_version']}, {versions or 'no peers'}; "
        f"{known['cpus']} cores, a load of {first} at the start and {last} at the end.",
        "",
        f"| {' | '.join(_HEADERS)} |",
        f"| {' | '.join('---' if place < _NUMBERS else '---:' for place in range(len(_HEADERS)))} |",
        *(f"| {' | '.join(_cells(one))} |" for one in ratios),
    ]
    return "\n".join(lines)
