"""What the ledger costs: one durable update of a task, against one plain `sqlite3` transaction on the same row.

The ledger's side is `progress`: the row is read again inside the transaction, a rule computes the new record, the
columns that differ are written, COMMIT, then memory, indexes and observers follow. The plain side is BEGIN IMMEDIATE,
one UPDATE of the same three columns by the same key, COMMIT, on a copy of the same file. WAL, synchronous=FULL.
"""

import contextlib
import shutil
import sqlite3
from itertools import count
from pathlib import Path

from benchmarks.measuring import Ratio, Round, in_turns, summed_up
from ledger import Ledger

_PER_CHUNK = 20
_TASKS = 100
_UPDATE = "UPDATE tasks SET progress_summary = ?, last_event_at = ? WHERE task_id = ?"


def _made(directory: Path, ids: list[str]) -> None:
    waiting = iter(ids)
    with (
        Ledger.open(directory, clock=lambda: 1_700_000_000_000, new_id=lambda: next(waiting)) as ledger,
        ledger.batch(),
    ):
        for _ in ids:
            ledger.tasks.create(runtime="cli", requester_session_key="main", task="work")


def durable_update(directory: Path, place: str, *, rounds: int, chunks: int) -> Ratio:
    """One `progress` of the ledger against one plain transaction."""
    ids = [f"task-{number}" for number in range(_TASKS)]
    measured: list[Round] = []
    for number in range(rounds):
        home, copy = directory / f"ledger-{number}", directory / f"copy-{number}"
        _made(home, ids)
        shutil.copytree(home, copy)
        ticks = count(1_700_000_000_001)
        with (
            Ledger.open(home, clock=ticks.__next__) as ledger,
            contextlib.closing(sqlite3.connect(copy / "ledger.sqlite", isolation_level=None)) as plain,
        ):
            plain.execute("PRAGMA journal_mode = wal").fetchall()
            plain.execute("PRAGMA synchronous = FULL")

            def ours(ledger: Ledger = ledger, ticks: "count[int]" = ticks) -> None:
                for task_id in ids[:_PER_CHUNK]:
                    ledger.tasks.progress(task_id, f"at {next(ticks)}")

            def theirs(plain: sqlite3.Connection = plain, ticks: "count[int]" = ticks) -> None:
                for task_id in ids[:_PER_CHUNK]:
                    now = next(ticks)
                    plain.execute("BEGIN IMMEDIATE")
                    plain.execute(_UPDATE, (f"at {now}", now, task_id))
                    plain.execute("COMMIT")

            measured.append(in_turns(ours, theirs, chunks=chunks, per_chunk=_PER_CHUNK))
    sides = ("durable update of the ledger", "plain sqlite3 transaction on the same row")
    return summed_up("ledger", place, sides, measured, per="update")
