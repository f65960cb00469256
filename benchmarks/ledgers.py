"""Ledgers to measure on: created by the ledger, and filled with any number of tasks.

A few tasks are made by the ledger's own calls, one for each state that a task can have; the others are copies of those
with other keys, made by one INSERT … SELECT, so that a million take seconds. An owner has ten tasks, a run has one.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tornpage.ledger import Ledger

NOW_MS = 1_700_000_000_000
_OWN = {
    "insertion": "NULL",
    "task_id": "'task-' || number",
    "owner_key": "'session-' || (number / 10)",
    "requester_session_key": "'session-' || (number / 10)",
    "run_id": "'run-' || number",
}


def task_id(number: int) -> str:
    """The id of a task of `fill`, from 0."""
    return f"task-{number}"


def fill(directory: Path, tasks: int) -> None:
    """Make a ledger with so many tasks; it is left closed and checkpointed."""
    ids = (f"model-{number}" for number in count())
    with Ledger.open(directory, clock=count(NOW_MS).__next__, new_id=lambda: next(ids)) as ledger:
        _make_models(ledger)
    with connected(directory) as connection:
        names = [str(row[1]) for row in connection.execute("PRAGMA table_info(tasks)")]
        values = ", ".join(_OWN.get(name, f"models.{name}") for name in names)
        connection.execute("BEGIN")
        connection.execute("CREATE TEMP TABLE models AS SELECT *, row_number() OVER () - 1 AS place FROM tasks")
        connection.execute("DELETE FROM tasks")
        connection.execute(
            f"WITH RECURSIVE numbers (number) AS (VALUES (0) UNION ALL SELECT number + 1 FROM numbers LIMIT ?) "
            f"INSERT INTO tasks ({', '.join(names)}) SELECT {values} FROM numbers "
            "CROSS JOIN models ON models.place = number % (SELECT count(*) FROM models) WHERE number < ?",
            (tasks, tasks),
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _make_models(ledger: Ledger) -> None:
    """One queued task, one that runs, one that came to its end."""
    new: dict[str, Any] = {
        "runtime": "cli",
        "requester_session_key": "main",
        "task": "a line of some sixty bytes, as a task's text is",
    }
    with ledger.batch():
        ledger.tasks.create(**new)
        running = ledger.tasks.create(**new, run_id="run", label="nightly")
        ledger.tasks.start(running.task_id)
        ledger.tasks.progress(running.task_id, "half way")
        ended = ledger.tasks.create(**new, child_session_key="child")
        ledger.tasks.finish(ended.task_id, "succeeded", terminal_summary="all done, nothing left to do")


@contextlib.contextmanager
def connected(directory: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to a ledger's file, at WAL and FULL as the ledger's own."""
    with contextlib.closing(sqlite3.connect(directory / "ledger.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        yield connection
