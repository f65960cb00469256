"""The reader of crash states lets go of the files, also where reading fails: the next state is put in their place."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults
from tornpage.scenarios.execution.crash.reader import CrashReader
from tornpage.scenarios.execution.snapshots import held_open
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration, Environment, View


class Torn(SimpleTarget):
    """Its rows can't be read to their end."""

    beat = Action("beat")

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Any:
        raise NotImplementedError

    def rows(self, connection: sqlite3.Connection) -> View:
        cursor = connection.execute("SELECT x FROM t")
        cursor.fetchone()
        raise ValueError("the second row is torn")


class Beating(sqlite3.Connection):
    def beat(self) -> None:
        self.execute("INSERT INTO t VALUES (1)")


class Opened(Torn):
    """A store that can be opened."""

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Any:
        return sqlite3.connect(path, isolation_level=None, factory=Beating)

    def view(self, store: Any) -> View:
        return self.rows(store)

    def rows(self, connection: sqlite3.Connection) -> View:
        return dict(connection.execute("SELECT x, x FROM t"))


class Chunks:
    """A store of plain files that opens one after the other, and leaves the first to its end where the next fails."""

    def __init__(self, directory: Path, *, in_a_cycle: bool) -> None:
        self.other = self if in_a_cycle else None
        self.head = (directory / "head").open("rb")
        self.tail = (directory / "tail").open("rb")

    def __del__(self) -> None:
        self.head.close()


class ChunksTarget(SimpleTarget):
    configurations = (Configuration("file", "FULL"),)
    beat = Action("beat")
    in_a_cycle = False

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Any:
        return Chunks(path.parent, in_a_cycle=self.in_a_cycle)

    def view(self, store: Any) -> View:
        return {}

    def files_view(self, directory: Path) -> View:
        return {"tail": (directory / "tail").read_text()}


class Interrupted:
    """A signal comes while the store's connection locks the file: its handler runs in a callback."""

    kinds = frozenset({"lock"})

    def decide(self, kind: str, role: str, path: str | None) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_inside_the_opening_of_a_store_is_no_violation(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "made.sqlite", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
    content = (home / "made.sqlite").read_bytes()
    reader = CrashReader(Opened(), Configuration("delete", "FULL"))
    state = faults.State(faults.Crash(0), {"store.sqlite": content}, (("store.sqlite", b""),))
    with faults.install() as shims:
        with pytest.raises(KeyboardInterrupt), shims.watching(Interrupted()):
            reader.view_of(state, 0, home / "crashed")
        assert reader.view_of(state, 0, home / "crashed") == {}


def test_a_reader_that_fails_keeps_neither_file_nor_lock(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "made.sqlite", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    content = (home / "made.sqlite").read_bytes()
    reader = CrashReader(Torn(), Configuration("delete", "FULL"))
    state = faults.State(faults.Crash(0), {"store.sqlite": content}, (("store.sqlite", b""),))
    with pytest.raises(Violation, match="a plain reader fails"):
        reader.view_of(state, 0, home / "crashed")
    assert held_open(home / "crashed") == []


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_a_reader_keeps_no_store_whose_opening_failed(home: Path, in_a_cycle: bool) -> None:
    target = ChunksTarget()
    target.in_a_cycle = in_a_cycle
    reader = CrashReader(target, Configuration("file", "FULL"))
    state = faults.State(faults.Crash(0), {"head": b"one"}, (("head", b"one"),))
    with pytest.raises(Violation, match="a plain reader fails"):
        reader.view_of(state, 0, home / "crashed")
    assert held_open(home / "crashed") == []
