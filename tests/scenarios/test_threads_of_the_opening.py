"""A store whose thread opens the connection a moment after the store was made opens the files of its own session."""

import contextlib
import queue
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, SimpleTarget, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Call, Scenario

DELETE = Configuration("delete", "FULL")
MOST_ROUNDS = 300_000


@pytest.fixture(autouse=True)
def threads_take_quick_turns() -> Iterator[None]:
    """Else a thread that works keeps the other one from making a store meanwhile."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Lines:
    """Its thread owns the connection, and works until another store is made, or for a while, before it opens it."""

    made = 0

    def __init__(self, path: Path) -> None:
        Lines.made += 1
        self.jobs: queue.Queue[Any] = queue.Queue()
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE IF NOT EXISTS line (text TEXT PRIMARY KEY)")
        self.thread = threading.Thread(target=self.run, args=(path,), daemon=True)
        self.thread.start()

    def run(self, path: Path) -> None:
        ours = Lines.made
        for _ in range(MOST_ROUNDS):
            if Lines.made > ours:
                break
        db = sqlite3.connect(path, isolation_level=None)
        while (job := self.jobs.get()) is not None:
            text, done = job
            db.execute("INSERT OR IGNORE INTO line VALUES (?)", (text,))
            done.set()
        self.end(db)

    def end(self, db: sqlite3.Connection) -> None:
        db.close()

    def write(self, text: str) -> None:
        done = threading.Event()
        self.jobs.put((text, done))
        done.wait()

    def close(self) -> None:
        self.jobs.put(None)
        self.thread.join()


class Leaks(Lines):
    def end(self, db: sqlite3.Connection) -> None:
        self.db = db


class LinesTarget(SimpleTarget):
    configurations = (DELETE,)
    calls = (Action("write", {"text": "a"}),)
    beat = Action("write", {"text": "beat"})
    kind = Lines

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Any:
        store = self.kind(path)
        store.path_under_test = path  # type: ignore[attr-defined]
        return store

    def view(self, store: Any) -> dict[str, Any]:
        with contextlib.closing(sqlite3.connect(store.path_under_test)) as connection:
            return self.rows(connection)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return dict.fromkeys((text for (text,) in connection.execute("SELECT text FROM line")), True)


class LeaksTarget(LinesTarget):
    kind = Leaks


@pytest.mark.parametrize("target", [LinesTarget, LeaksTarget])
def test_the_thread_opens_the_files_of_its_session(target: type[LinesTarget], shim: faults.Shim, home: Path) -> None:
    scenario = Scenario(target.__name__, DELETE, (Call(LinesTarget.calls[0]),))
    violation = play(scenario, target(), home)[0]
    assert str(violation) == (
        "None"
        if target is LinesTarget
        else "still-usable-after-the-fault: after closing, files are still open (store.sqlite)"
    )
