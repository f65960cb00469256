"""A database that is locked for a moment is read again; one that stays locked is reported as locked."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.program_rival import ProgramRival
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Rival
from tornpage.scenarios.model.target import Configuration


@contextmanager
def locked(path: Path, until: Callable[[], None]) -> Iterator[None]:
    """Another thread has the whole file for itself, and lets go of it after `until`."""
    holds = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            holds.set()
            until()
            connection.execute("ROLLBACK")

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    yield
    thread.join()


@pytest.fixture
def trial(shim: faults.Shim, tmp_path: Path) -> Iterator[Trial]:
    with Trial(tiny_stores.Tiny(), Configuration("delete", "FULL"), tmp_path, {}) as trial:
        yield trial


def test_a_thread_that_still_works_is_waited_for(trial: Trial) -> None:
    asks = threading.Event()
    trial.before_reading.append(asks.set)

    def work() -> None:
        asks.wait()
        for _ in range(200_000):
            pass

    with locked(trial.target.database(trial.directory), work):
        assert trial.fresh_view() == {}


def test_a_lock_that_is_held_while_everything_sleeps_is_reported(trial: Trial) -> None:
    read = threading.Event()
    with locked(trial.target.database(trial.directory), read.wait):
        with pytest.raises(Violation, match=r"a fresh reader fails: .*database is locked"):
            trial.fresh_view()
        read.set()


class Noticed:
    """A lock that sets an event when the second one asks for it."""

    def __init__(self, asked: threading.Event) -> None:
        self._lock, self._asked, self._is_first = threading.Lock(), asked, True

    def __enter__(self) -> None:
        if not self._is_first:
            self._asked.set()
        self._is_first = False
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_release_beside_a_program_is_awaited_once_it_has_begun() -> None:
    """The program goes on before the rival has closed its connection."""
    begun, asked = threading.Event(), threading.Event()
    order: list[str] = []

    def release() -> None:
        begun.set()
        asked.wait()
        order.append("released")

    process: Any = SimpleNamespace(release=release)
    nothing: Any = SimpleNamespace()
    rival = ProgramRival(nothing, nothing, Rival("writer", "call", 1, "process", 50), process)
    rival.holds, rival._lock = True, cast("Any", Noticed(asked))
    releasing = threading.Thread(target=rival.let_go)
    releasing.start()
    begun.wait()
    rival.make_way()
    order.append("read")
    asked.set()
    releasing.join()
    assert order == ["released", "read"]
