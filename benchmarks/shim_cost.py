"""The cost of the shim with nothing armed, against plain `sqlite3`.

The workload is the same on both sides: single-row inserts, each a transaction, WAL and synchronous=FULL, with a
checkpoint at every thousandth page as SQLite does by default. Each side has its own file; the plain side's connection
bypasses the shim, on SQLite's own VFS.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measuring import Ratio, Round, in_turns, summed_up

from tornpage import faults

_PER_CHUNK = 20


@contextlib.contextmanager
def _inserting(path: Path, *, watched: bool) -> Iterator[Callable[[], None]]:
    """A function that commits `_PER_CHUNK` rows, one at a time, through the shim or past it."""
    path.touch()
    connection = sqlite3.connect(path, isolation_level=None) if watched else faults.connect_unwatched(path)
    with contextlib.closing(connection):
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")

        def insert() -> None:
            for _ in range(_PER_CHUNK):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(
                    "INSERT INTO notes (text) VALUES (?)", ("a line of some sixty bytes, as a task's text is",)
                )
                connection.execute("COMMIT")

        insert()
        yield insert


def nothing_armed(directory: Path, place: str, *, rounds: int, chunks: int, aim: float | None) -> Ratio:
    """The shim installed and nothing armed, against plain `sqlite3`."""
    measured: list[Round] = []
    with faults.install():
        for number in range(rounds):
            with (
                _inserting(directory / f"shim-{number}.db", watched=True) as ours,
                _inserting(directory / f"plain-{number}.db", watched=False) as theirs,
            ):
                measured.append(in_turns(ours, theirs, chunks=chunks, per_chunk=_PER_CHUNK))
    sides = ("shim on, nothing armed", "plain sqlite3")
    return summed_up("shim", place, sides, measured, per="transaction", aim=aim)
