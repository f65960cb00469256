"""The costs of a large ledger: restoring it, and one update of it.

*Restore* is `TaskRegistry.restore` of an open ledger: every row of both tables in one read transaction, decoded,
checked, brought into order, quarantined where unreadable, and put into memory with its place. Against it: fetch the
same rows of the same file by a plain connection and decode each into the same record, with msgspec's checks and nothing
else. Opening is measured beside it: it checks the whole file first (`integrity_check`), and this against the plain
reader that does so, too.

*One update* at a million tasks against one at a thousand, of tasks drawn from the whole ledger. For comparison: the
same with plain `sqlite3` on copies of both files, with a deeper tree, and more different pages to write back.
"""

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
from benchmarks.ledger_cost import plain_update
from benchmarks.ledgers import NOW_MS, connected, fill, task_id
from benchmarks.measuring import Ratio, Round, in_turns, summed_up

from tornpage.ledger import Ledger, Task

_PER_CHUNK = 20
_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Task))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM tasks ORDER BY insertion"


def fetched_and_decoded(connection: sqlite3.Connection) -> list[Task]:
    """All tasks of a file, by plain code: the floor of a restore."""
    rows = connection.execute(_SELECT).fetchall()
    return [msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), Task) for row in rows]


def restore(directory: Path, place: str, *, rounds: int, tasks: int) -> Iterator[Ratio]:
    """A restore of so many tasks, and an opening, each against plain reading of the same file."""
    home = directory / "restored"
    fill(home, tasks)
    ours_name = f"restore of {tasks:,} tasks"
    with Ledger.open(home) as ledger, connected(home) as plain:
        measured = [
            in_turns(ledger.tasks.restore, lambda: fetched_and_decoded(plain), chunks=2, per_chunk=1)
            for _ in range(rounds)
        ]
    sides = (ours_name, "plain fetch and decode of the same rows")
    yield summed_up("restore", place, sides, measured, per="restore", aim=1.5)
    measured = [
        in_turns(lambda: _opened(home), lambda: _checked_and_read(home), chunks=2, per_chunk=1) for _ in range(rounds)
    ]
    sides = (f"opening a ledger of {tasks:,} tasks", "plain connection, integrity_check, fetch and decode")
    yield summed_up("opening", place, sides, measured, per="opening")
    shutil.rmtree(home)


def _opened(home: Path) -> None:
    Ledger.open(home).close()


def _checked_and_read(home: Path) -> None:
    with connected(home) as connection:
        connection.execute("PRAGMA integrity_check").fetchall()
        fetched_and_decoded(connection)


class Sizes:
    """Two ledgers, one with many and one with few tasks, and a copy of each for the plain side."""

    def __init__(self, directory: Path, place: str, *, many: int, few: int) -> None:
        self.place = place
        self.many = many
        self.few = few
        self._directory = directory / "sizes"
        for tasks in (many, few):
            fill(self._directory / f"ledger-{tasks}", tasks)
            shutil.copytree(self._directory / f"ledger-{tasks}", self._directory / f"copy-{tasks}")

    def measure(self, *, rounds: int, chunks: int, aim: float | None) -> Iterator[Ratio]:
        """The ledger's line, and that of plain `sqlite3`."""
        names = {"million": "one update of the ledger", "million, plain": "one plain sqlite3 update"}
        for name, of_size in zip(names, (self._ledger, self._plain), strict=True):
            with of_size(self.many) as ours, of_size(self.few) as theirs:
                measured: list[Round] = [
                    in_turns(ours, theirs, chunks=chunks, per_chunk=_PER_CHUNK) for _ in range(rounds)
                ]
            sides = (f"{names[name]} at {self.many:,} tasks", f"the same at {self.few:,} tasks")
            its_aim = aim if name == "million" else None
            yield summed_up(name, self.place, sides, measured, per="update", aim=its_aim)
        shutil.rmtree(self._directory)

    @contextlib.contextmanager
    def _ledger(self, tasks: int) -> Iterator[Callable[[], None]]:
        ticks = count(2 * NOW_MS)
        draw = _drawn(tasks)
        with Ledger.open(self._directory / f"ledger-{tasks}", clock=ticks.__next__) as ledger:

            def update() -> None:
                for key in draw():
                    ledger.tasks.progress(key, f"at {next(ticks)}")

            yield update

    @contextlib.contextmanager
    def _plain(self, tasks: int) -> Iterator[Callable[[], None]]:
        ticks = count(2 * NOW_MS)
        draw = _drawn(tasks)
        with connected(self._directory / f"copy-{tasks}") as plain:

            def update() -> None:
                for key in draw():
                    plain_update(plain, next(ticks), key)

            yield update


def _drawn(tasks: int) -> Callable[[], list[str]]:
    """Draws the ids of one chunk from all over the ledger."""
    generator = random.Random(tasks)  # noqa: S311 - a sample
    return lambda: [task_id(generator.randrange(tasks)) for _ in range(_PER_CHUNK)]
