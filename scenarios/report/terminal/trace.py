"""A traced scenario on a terminal: its steps, and the views side by side where they first differ."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tornpage.scenarios.execution.finding.trace import Trace
from tornpage.scenarios.execution.finding.views import NONE, Row

_MOST_ROWS = 10
_LANE = 40


def show_trace(trace: Trace, console: Console) -> None:
    """Print the steps, the check that failed, and the table of the first difference."""
    for number, moment in enumerate(trace.moments, start=1):
        mark = "»" if number == trace.first_difference else " "
        # Two callers are two columns: B's steps are to the right of A's.
        lane = " " * _LANE if moment.caller == "B" else ""
        caller = f"[{moment.caller}] " if moment.caller else ""
        text = f"{mark} {number}. {lane}{caller}{moment.step}\n     {lane}{moment.outcome}"
        console.print(Text(text), soft_wrap=True)
    if trace.rows:
        console.print()
        console.print(_table(trace))
        if len(trace.rows) > _MOST_ROWS:
            console.print(Text(f"and {len(trace.rows) - _MOST_ROWS} more keys"))
    if trace.first_difference:
        for name, lane_there in trace.moments[trace.first_difference - 1].lanes.items():
            if lane_there.reason:
                console.print(Text(f"{name} can't be read: {lane_there.reason}"), soft_wrap=True)
    verdict = f"{trace.check}: {trace.message}" if trace.check else "every check passes"
    console.print(Text(f"\n{verdict}"), soft_wrap=True)
    if trace.where:
        console.print(Text(f"at {trace.where}"), soft_wrap=True)


def _table(trace: Trace) -> Table:
    table = Table(title=f"after step {trace.first_difference}", title_justify="left", show_lines=True)
    table.add_column("key", overflow="fold")
    names = list(trace.rows[0].sides)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in trace.rows[:_MOST_ROWS]:
        table.add_row(Text(row.key), *(Text(_shown(row, name)) for name in names))
    return table


def _shown(row: Row, name: str) -> str:
    """A side; of two records only the fields that differ."""
    value = row.sides[name]
    if value is None:
        return "nothing"
    if value == NONE:
        return NONE
    records: list[dict[str, Any]] = [side for side in row.sides.values() if isinstance(side, dict)]
    if not isinstance(value, dict) or len(records) < 2:
        return repr(value)
    fields = sorted({field for record in records for field in record})
    differing = [field for field in fields if any(record.get(field) != records[0].get(field) for record in records)]
    return "\n".join(f"{field}: {value.get(field)!r}" for field in differing) or "the same as another"
