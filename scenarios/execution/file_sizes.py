"""Answers that tell of the files and not of the rows, such as how much room a store takes on the disk.

In WAL mode the same rows lie in the database or in its log, as the last checkpoint has left them; a failed write, too,
leaves bytes in the log. So a call is asked in a new session on the store's files as they are, and on these files with
the log written back: a number that differs tells of the files, and is not compared. Other values are: a store that
reads its database past the log answers old rows.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.snapshots import Files, Holder, place
from tornpage.scenarios.model.judging.varying import differ_where_these_do
from tornpage.scenarios.model.target import Target


def tells_of_files(answered: Any, wanted: Any, files: Files, again: Callable[[Files], Any], back: Files) -> bool:
    """Whether two answers differ only in numbers that `again`, asked on `files`, has otherwise where it asks on `back`.

    `back`: the same files with the log written back.
    """
    if back == files:
        return False
    first, second = again(files), again(back)
    return differ_in_numbers(first, second) and differ_where_these_do(answered, wanted, first, second)


def written_back(target: Target, files: Files, home: Path) -> Files:
    """The files with the log of the database written back; `home` is a directory for it."""
    place(files, home)
    holder = Holder()
    try:
        write_back(target.database(home))
        return holder.copy(home)
    except sqlite3.Error:
        return files
    finally:
        holder.release()


def write_back(database: Path) -> None:
    """Write the log of a database back, as far as its readers let us."""
    with contextlib.closing(faults.connect_unwatched(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def differ_in_numbers(one: Any, other: Any) -> bool:
    """Whether two answers, as data, differ in numbers only; True if they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(differ_in_numbers(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(differ_in_numbers, one, other))
    return one == other or all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
