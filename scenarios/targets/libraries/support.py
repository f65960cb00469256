"""Shared code of the targets for third-party libraries.

The packages run unmodified; the harness replaces only random values and the time, so that the same call makes the same
operations each time.
"""

import logging
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tornpage import faults
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session, TargetError, View


class VirtualTime:
    """The part of the ``time`` module that a library uses, on an environment's clock; sleeping advances it.

    Replace the library's ``time`` by it only while a call is made: two sessions may be open at once, and they are not
    closed in the order of their opening.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._slept_s = 0.0

    def time(self) -> float:
        """The time of day, in seconds."""
        return self._environment.now_ms / 1000 + self._slept_s

    monotonic = time

    def time_ns(self) -> int:
        """The time of day, in nanoseconds."""
        return round(self.time() * 1000) * 1_000_000

    def sleep(self, seconds: float) -> None:
        """Advance the clock by at least a second: a loop that polls each millisecond would poll for long."""
        self._slept_s += max(seconds, 1.0)
        faults.slept(max(seconds, 1.0))


def silence(*loggers: str) -> None:
    """Keep a library from logging its errors, of which there are thousands.

    A log record that a handler keeps would keep the frames of its error, and with them a connection.
    """
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def require_known(action: Action, known: Collection[str]) -> None:
    """Raise TargetError for an action that is none of these.

    It may come from a replay file, and other methods could reach beyond the store's directory.
    """
    if action.name not in known:
        raise TargetError(f"unknown action {action.name!r}; known: {', '.join(sorted(known))}")


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether the database has a table of that name."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone() is not None


class _KnownCalls:
    """A session that makes only the calls of its target."""

    def __init__(self, session: Session, known: Collection[str]) -> None:
        self._session = session
        self._known = known
        self.live_view = session.live_view
        self.outcome_of = session.outcome_of
        self.self_check = session.self_check
        self.close = session.close

    def call(self, action: Action) -> Any:
        require_known(action, self._known)
        return self._session.call(action)


class ShortTarget(SimpleTarget):
    """A library's target in the short form; `calls` and `beat` name every method that may be called."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Create the store in a directory."""
        known = {action.name for action in (*self.calls, self.beat)}
        return _KnownCalls(super().open(directory, configuration, environment), known)


class ItemsTarget(ShortTarget):
    """A target whose store keeps texts by key in a table `item`; for processes that share the file.

    Subclasses write `make` and `view`; the store has the methods ``set``, ``move`` and ``remove``.
    """

    configurations = (Configuration("delete", "FULL"), Configuration("wal", "NORMAL"))
    file = "items.sqlite"
    callers: tuple[Callers, ...] = ("processes",)
    calls = (
        Action("set", {"key": "a", "value": "1"}),
        Action("set", {"key": "b", "value": "x" * 6_000}),
        Action("set", {"key": "a", "value": "2"}),
        Action("move", {"key": "b", "to": "c"}),
        Action("remove", {"key": "a"}),
    )
    beat = Action("set", {"key": "heartbeat", "value": "1"})

    def rows(self, connection: sqlite3.Connection) -> View:
        """The rows of its table."""
        return dict(connection.execute("SELECT key, value FROM item"))
