"""The table of real kills: in which operation, and when in it, processes died."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from rich.table import Table

from tornpage import faults
from tornpage.scenarios.model.events import Series
from tornpage.scenarios.search.recorder import Recorder

_TIMINGS: Final = ("before", "half", "after")


def kills_by_operation(recorder: Recorder) -> Mapping[str, Counter[str]]:
    """For each operation, such as ``write:wal``, the processes killed before, half-way through and after it."""
    found: dict[str, Counter[str]] = {}
    for series, tally in recorder.tallies.items():
        if series.effect == faults.KILL:
            found.setdefault(_operation(series), Counter())[series.timing] += tally.fired
    return dict(sorted(found.items()))


def _operation(series: Series) -> str:
    return series.kind if series.role == "any" else f"{series.kind}:{series.role}"


def kills_table(recorder: Recorder) -> Table:
    """The same as a table, with its sums."""
    table = Table(title="processes killed", title_justify="left")
    table.add_column("operation")
    for name in (*_TIMINGS, "all"):
        table.add_column(name, justify="right")
    total: Counter[str] = Counter()
    for operation, counts in kills_by_operation(recorder).items():
        table.add_row(operation, *_cells(counts))
        total += counts
    table.add_section()
    table.add_row("all", *_cells(total))
    return table


def _cells(counts: Counter[str]) -> list[str]:
    return [f"{counts[timing]:,}" if counts[timing] else "" for timing in _TIMINGS] + [f"{counts.total():,}"]
