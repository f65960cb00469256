"""Prints records: JSON for programs, a table on a terminal, tab-separated lines in a pipe.

Times in JSON are milliseconds since the epoch, as stored; for people they are UTC to the second.
"""

# no fault in this file: a target calls the ledger itself, not the command; its tests do that.

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from tornpage.ledger.records import Task

_COLUMNS = ("id", "runtime", "status", "owner", "created", "task")
_TIME_FIELDS = frozenset(
    {"created_at", "started_at", "ended_at", "finished_at", "invalidated_at", "last_event_at", "cleanup_after"}
    | {"queued_at", "next_attempt_at", "last_attempt_at", "delivered_at", "completed_at"}
)


def as_utc(time_ms: int) -> str:
    """A time as ``2026-01-31 12:00:00Z``."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def is_output_lost() -> bool:
    """Whether standard output can't be written any more; if so, the rest is discarded, and the exit is quiet.

    This is tested with an empty line. Otherwise Python would try to write the rest at exit, and exit with 120.
    """
    try:
        print(flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def print_json(value: Any) -> None:
    """One JSON document on standard output, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_tasks(tasks: Sequence[Task]) -> None:
    """A list of tasks for people, or for a pipe."""
    rows = [
        (task.task_id, task.runtime.value, task.status.value, task.owner_key, as_utc(task.created_at), task.task)
        for task in tasks
    ]
    print_rows(_COLUMNS, rows, empty="No tasks.")


def print_record(record: msgspec.Struct) -> None:
    """One record, one field per line, without absent fields."""
    for name, value in msgspec.structs.asdict(record).items():
        if value is not None and value != "":
            shown = f"{as_utc(value)} ({value})" if name in _TIME_FIELDS else _one_line(str(value))
            click.echo(f"{name:<22} {shown}")


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Rows of text under a heading, for people or for a pipe; a terminal gets `empty` where there are none."""
    console = Console()
    if not console.is_terminal:
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(_one_line(cell) for cell in row))
        return
    if not rows:
        console.print(empty)
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold" if column == "id" else "ellipsis", no_wrap=column != "id")
    for row in rows:
        # A task's text is not markup: square brackets in it are text.
        table.add_row(*(_one_line(cell).replace("[", r"\[") for cell in row))
    console.print(table)


def _one_line(text: str) -> str:
    return " ".join(text.split())
