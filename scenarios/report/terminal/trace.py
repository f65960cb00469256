"""A told scenario on a terminal: its steps, and the views side by side where they first differ."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tornpage.scenarios.execution.finding.trace import Row, Trace

_MOST_ROWS = 10
_LANE = 40


def show_told(told: Trace, console: Console) -> None:
    """Print the steps, the check that failed, and the table of the first difference."""
    for number, step in enumerate(told.steps, start=1):
        mark = "»" if number == told.first_difference else " "
        # Two callers are two lanes: what B does stands to the right of what A does.
        lane = " " * _LANE if step.caller == "B" else ""
        caller = f"[{step.caller}] " if step.caller else ""
        text = f"{mark} {number}. {lane}{caller}{step.step}\n     {lane}{step.outcome}"
        console.print(Text(text), soft_wrap=True)
    if told.rows:
        console.print()
        console.print(_table(told))
        if len(told.rows) > _MOST_ROWS:
            console.print(Text(f"and {len(told.rows) - _MOST_ROWS} more keys"))
    for name, reason in told.views_fail.items():
        console.print(Text(f"{name} can't be looked at: {reason}"), soft_wrap=True)
    verdict = f"{told.check}: {told.message}" if told.check else "every check holds"
    console.print(Text(f"\n{verdict}"), soft_wrap=True)


def _table(told: Trace) -> Table:
    table = Table(title=f"after step {told.first_difference}", title_justify="left", show_lines=True)
    table.add_column("key", overflow="fold")
    names = list(told.rows[0].sides)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in told.rows[:_MOST_ROWS]:
        table.add_row(Text(row.key), *(Text(_shown(row, name)) for name in names))
    return table


def _shown(row: Row, name: str) -> str:
    """A side; of two records only the fields in which any of them differ."""
    value = row.sides[name]
    if value is None:
        return "nothing"
    records: list[dict[str, Any]] = [side for side in row.sides.values() if isinstance(side, dict)]
    if not isinstance(value, dict) or len(records) < 2:
        return repr(value)
    fields = sorted({field for record in records for field in record})
    differing = [field for field in fields if any(record.get(field) != records[0].get(field) for record in records)]
    return "\n".join(f"{field}: {value.get(field)!r}" for field in differing) or "the same as another"
