"""The cost of a watched operation: the shim against a VFS written with apsw.

Both call Python at every read, write, truncate, sync, lock and unlock of a file, and the Python code does the same:
count by kind and role, and let the operation pass. Ours is a watcher of the shim; apsw's is a subclass of
``apsw.VFSFile`` whose methods count and call ``super()``. Four files take turns, two of each side: one watched and one
bare. The extra time of a side's watched file over its bare one, divided by the operations that its watcher counted, is
the cost of an operation; the result is the ratio of the two costs.

apsw contains its own, newer SQLite, which the line names. So the two sides may make different operations for the same
transaction; each is divided by its own count. Operations on shared memory are excluded, since apsw doesn't expose them.
"""

import contextlib
import importlib
import importlib.util
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import Ratio, Round, Spent, summed_up

from tornpage import faults

_PER_CHUNK = 20
_KINDS = frozenset({"read", "write", "truncate", "sync", "lock", "unlock"})
_NAME = "tornpage-benchmark"
_INSERT = "INSERT INTO notes (text) VALUES (?)"
_TEXT = ("a line of some sixty bytes, as a task's text is",)
_AIM = 1.2

Counts = Counter[tuple[str, str]]


class Watcher:
    """The shim's side: an injector that counts and never fires."""

    kinds = _KINDS

    def __init__(self) -> None:
        self.counts: Counts = Counter()

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Count, and let it pass."""
        self.counts[kind, role] += 1


def _subclasses(apsw: Any, counts: Counts) -> Any:
    """A VFS of apsw's that does the same, made where apsw is there; it is registered as long as it is referenced."""

    # apsw need not be installed where types are checked.
    class CountingFile(apsw.VFSFile):  # type: ignore[misc]
        def __init__(self, name: Any, flags: list[int]) -> None:
            super().__init__("", name, flags)
            roles = ((apsw.SQLITE_OPEN_WAL, "wal"), (apsw.SQLITE_OPEN_MAIN_DB, "db"))
            self.role = next((role for flag, role in roles if flags[0] & flag), "journal")

        def xRead(self, amount: int, offset: int) -> Any:  # noqa: N802 - SQLite's name
            counts["read", self.role] += 1
            return super().xRead(amount, offset)

        def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
            counts["write", self.role] += 1
            super().xWrite(data, offset)

        def xTruncate(self, size: int) -> None:  # noqa: N802 - SQLite's name
            counts["truncate", self.role] += 1
            super().xTruncate(size)

        def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
            counts["sync", self.role] += 1
            super().xSync(flags)

        def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
            counts["lock", self.role] += 1
            super().xLock(level)

        def xUnlock(self, level: int) -> None:  # noqa: N802 - SQLite's name
            counts["unlock", self.role] += 1
            super().xUnlock(level)

    class CountingVfs(apsw.VFS):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(_NAME, "")

        def xOpen(self, name: Any, flags: list[int]) -> CountingFile:  # noqa: N802 - SQLite's name
            return CountingFile(name, flags)

    return CountingVfs()


def _inserting(connection: Any, mode: str) -> Callable[[], None]:
    """A function that commits `_PER_CHUNK` rows, one at a time."""
    connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
    connection.execute("PRAGMA synchronous = FULL").fetchall()
    connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)").fetchall()

    def insert() -> None:
        for _ in range(_PER_CHUNK):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT, _TEXT)
            connection.execute("COMMIT")

    insert()
    return insert


@contextlib.contextmanager
def _four(directory: Path, mode: str, number: int, apsw: Any, theirs: Counts) -> Iterator[list[Callable[[], None]]]:
    """Ours watched, ours bare, theirs watched, theirs bare."""
    names = [directory / f"{who}-{mode}-{number}.db" for who in ("ours", "ours-bare", "theirs", "theirs-bare")]
    for name in names:
        name.touch()
    with contextlib.ExitStack() as scopes:
        vfs = _subclasses(apsw, theirs)
        connections: list[Any] = [
            sqlite3.connect(names[0], isolation_level=None),
            faults.connect_unwatched(names[1]),
            apsw.Connection(str(names[2]), vfs=_NAME),
            apsw.Connection(str(names[3])),
        ]
        for connection in connections:
            scopes.callback(connection.close)
        scopes.callback(vfs.unregister)
        yield [_inserting(connection, mode) for connection in connections]


def counted(directory: Path, mode: str, number: int, chunks: int) -> Round:
    """One round: what each side's watching took, and the operations that it saw."""
    apsw = importlib.import_module("apsw")
    watcher, theirs = Watcher(), Counter[tuple[str, str]]()
    with faults.install(), _four(directory, mode, number, apsw, theirs) as sides:
        theirs.clear()
        spent, generator = [Spent() for _ in sides], random.Random(number)  # noqa: S311 - an order
        # Not of all libraries: apsw's own is within reach, too.
        with faults.shim_for().watching(watcher):
            for _ in range(chunks):
                for side in generator.sample(range(4), 4):
                    spent[side].on(sides[side])
        ours, ours_bare, of_apsw, of_apsw_bare = spent
        return Round(ours.beyond(ours_bare), of_apsw.beyond(of_apsw_bare), watcher.counts.total(), theirs.total())


def missing() -> list[str]:
    """What has to be installed for this, and isn't."""
    return [] if importlib.util.find_spec("apsw") else ["apsw"]


def per_operation(directory: Path, place: str, mode: str, *, rounds: int, chunks: int) -> Ratio:
    """A watched operation of the shim against one of apsw's; raises ImportError where apsw isn't installed."""
    apsw = importlib.import_module("apsw")
    measured = [counted(directory, mode, number, chunks) for number in range(rounds)]
    theirs = f"apsw {apsw.apsw_version()} (SQLite {apsw.sqlite_lib_version()}), a VFS subclass, per operation"
    sides = ("shim, per watched operation", theirs)
    return summed_up("operation", f"{place}, {mode}", sides, measured, per="operation", aim=_AIM)
