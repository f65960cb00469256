"""The cost of a change of the ledger: one durable update against plain `sqlite3`, and many updates in one batch.

The ledger's side is `progress`: the row is read again inside the transaction, a rule computes the new record, the
columns that differ are written, COMMIT, then memory, indexes and observers follow. The plain side is BEGIN IMMEDIATE,
one UPDATE of the same three columns by the same key, COMMIT, on a copy of the same file. WAL, synchronous=FULL.

A batch is the same calls inside `Ledger.batch`, against the same calls one by one.
"""

import shutil
import sqlite3
from itertools import count
from pathlib import Path

from benchmarks.ledgers import NOW_MS, connected, fill, task_id
from benchmarks.measuring import Ratio, Round, in_turns, summed_up

from tornpage.ledger import Ledger

_PER_CHUNK = 20
_TASKS = 100
_UPDATE = "UPDATE tasks SET progress_summary = ?, last_event_at = ? WHERE task_id = ?"


def plain_update(plain: sqlite3.Connection, now: int, key: str) -> None:
    """The transaction that a `progress` of the ledger is held against."""
    plain.execute("BEGIN IMMEDIATE")
    plain.execute(_UPDATE, (f"at {now}", now, key))
    plain.execute("COMMIT")


def durable_update(directory: Path, place: str, *, rounds: int, chunks: int, aim: float | None) -> Ratio:
    """One `progress` of the ledger against one plain transaction."""
    ids = [task_id(number) for number in range(_PER_CHUNK)]
    measured: list[Round] = []
    for number in range(rounds):
        home, copy = directory / f"ledger-{number}", directory / f"copy-{number}"
        fill(home, _TASKS)
        shutil.copytree(home, copy)
        ticks = count(2 * NOW_MS)
        with Ledger.open(home, clock=ticks.__next__) as ledger, connected(copy) as plain:

            def ours(ledger: Ledger = ledger, ticks: "count[int]" = ticks) -> None:
                for key in ids:
                    ledger.tasks.progress(key, f"at {next(ticks)}")

            def theirs(plain: sqlite3.Connection = plain, ticks: "count[int]" = ticks) -> None:
                for key in ids:
                    plain_update(plain, next(ticks), key)

            measured.append(in_turns(ours, theirs, chunks=chunks, per_chunk=_PER_CHUNK))
    sides = ("durable update of the ledger", "plain sqlite3 transaction on the same row")
    return summed_up("update", place, sides, measured, per="update", aim=aim)


def batch(directory: Path, place: str, *, rounds: int, updates: int, aim: float | None) -> Ratio:
    """So many updates in one batch against as many single ones, on two ledgers of as many tasks; a chunk is all."""
    measured: list[Round] = []
    ids = [task_id(number) for number in range(updates)]
    for number in range(rounds):
        batched, single = directory / f"batched-{number}", directory / f"single-{number}"
        fill(batched, updates)
        shutil.copytree(batched, single)
        ticks = count(2 * NOW_MS)
        with Ledger.open(batched, clock=ticks.__next__) as ours, Ledger.open(single, clock=ticks.__next__) as theirs:

            def all_of(ledger: Ledger, ticks: "count[int]" = ticks) -> None:
                for key in ids:
                    ledger.tasks.progress(key, f"at {next(ticks)}")

            def in_one(ledger: Ledger = ours) -> None:
                with ledger.batch():
                    all_of(ledger)

            def one_by_one(ledger: Ledger = theirs) -> None:
                all_of(ledger)

            measured.append(in_turns(in_one, one_by_one, chunks=1, per_chunk=updates))
    sides = (f"{updates:,} updates in one batch", f"{updates:,} single updates")
    return summed_up("batch", place, sides, measured, per="update", aim=aim, faster=True)
