"""diskcache, from PyPI: a cache on SQLite without a memory cache over it.

Its promises, from its documentation (https://grantjenks.com/docs/diskcache/): operations are atomic, errors of SQLite
reach the caller, a busy database raises Timeout. The package runs unmodified; only the clock of its 60-second retry
loop is virtual, so that a permanent lock takes no real minute.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

import diskcache
import diskcache.core
from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from tornpage import faults
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session, Target, TargetError, View

_CALLS: Final = ("add", "decr", "delete", "incr", "pop", "set", "touch")


class _VirtualTime:
    """The part of the ``time`` module that diskcache uses; to sleep is to move the clock."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._slept_s = 0.0

    def time(self) -> float:
        return self._environment.now_ms / 1000 + self._slept_s

    def sleep(self, seconds: float) -> None:
        # A loop that polls every millisecond for a minute would poll 60,000 times.
        self._slept_s += max(seconds, 1.0)
        faults.slept(max(seconds, 1.0))


class DiskCacheSession:
    """One open `diskcache.Cache`."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        self._scope = contextlib.ExitStack()
        self._scope.enter_context(mock.patch.object(diskcache.core, "time", _VirtualTime(environment)))
        try:
            self._cache = diskcache.Cache(
                str(directory),
                timeout=1,
                sqlite_journal_mode=configuration.journal_mode,
                sqlite_synchronous=("OFF", "NORMAL", "FULL", "EXTRA").index(configuration.synchronous),
                # Mapped reads never reach a VFS's xRead; without the map they can fail.
                sqlite_mmap_size=0,
            )
        except BaseException:
            self._scope.close()
            raise

    def call(self, action: Action) -> None:
        """Make one call of the cache's interface."""
        if action.name not in _CALLS:
            # An action may come from a replay file; other methods could reach beyond the cache's directory.
            raise TargetError(f"unknown action {action.name!r}; known: {', '.join(_CALLS)}")
        getattr(self._cache, action.name)(**action.args)

    def live_view(self) -> View:
        """Every key with its value, from the cache."""
        return {f"item/{key}": self._cache.get(key) for key in self._cache.iterkeys()}

    def outcome_of(self, error: Exception) -> str | None:  # noqa: ARG002 - the protocol's shape
        """The library reports nothing about the change."""
        return None

    def self_check(self) -> None:
        """There is no memory to check."""

    def close(self) -> None:
        """Close the cache."""
        with self._scope:
            self._cache.close()


class DiskCache(Target):
    """Target: diskcache.Cache, unmodified."""

    name = "diskcache"
    title = f"diskcache {diskcache.__version__}, unmodified: a cache on SQLite"
    configurations: tuple[Configuration, ...] = (
        Configuration("wal", "NORMAL"),  # its own default
        Configuration("wal", "FULL"),
        Configuration("delete", "FULL"),
    )
    depths: tuple[str, ...] = ("vfs",)  # it takes no connection factory
    unpromised: Mapping[str, str] = {
        "error-is-not-hidden": "its documentation names no error but Timeout; a blind ROLLBACK hides the cause",
    }

    def workload(self) -> tuple[Action, ...]:
        """Rows in the table, a value in a separate file, and every kind of change."""
        return (
            Action("set", {"key": "alpha", "value": 1}),
            Action("set", {"key": "beta", "value": "text"}),
            Action("set", {"key": "large", "value": "x" * 40_000}),
            Action("add", {"key": "gamma", "value": [1, 2]}),
            Action("incr", {"key": "alpha"}),
            Action("set", {"key": "beta", "value": "other text"}),
            Action("touch", {"key": "beta", "expire": 1e10}),
            Action("pop", {"key": "gamma"}),
            Action("delete", {"key": "large"}),
            Action("delete", {"key": "alpha"}),
        )

    def actions(self, view: View) -> SearchStrategy[Action]:  # noqa: ARG002 - every call makes sense at any time
        """Any change to one of three keys, with values that fit into the row and one that gets a file."""
        key = strategies.sampled_from(["alpha", "beta", "gamma"])
        value = strategies.sampled_from([1, "text", "x" * 40_000])
        return strategies.one_of(
            strategies.builds(lambda k, v: Action("set", {"key": k, "value": v}), key, value),
            strategies.builds(lambda k, v: Action("add", {"key": k, "value": v}), key, value),
            strategies.builds(
                lambda name, k: Action(name, {"key": k}), strategies.sampled_from(["delete", "pop"]), key
            ),
            strategies.builds(lambda k: Action("touch", {"key": k, "expire": 1e10}), key),
        )

    def heartbeat(self) -> Action:
        """One more key."""
        return Action("set", {"key": "heartbeat", "value": 1})

    def database(self, directory: Path) -> Path:
        """The file that diskcache names."""
        return directory / "cache.db"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the cache."""
        return DiskCacheSession(directory, configuration, environment)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows, decoded by diskcache's own `Disk`."""
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'Cache'").fetchone():
            return {}
        directory = Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent
        return dict(_rows(connection, diskcache.Disk(str(directory))))


def _rows(connection: sqlite3.Connection, disk: Any) -> Iterator[tuple[str, Any]]:
    for key, raw, mode, filename, value in connection.execute("SELECT key, raw, mode, filename, value FROM Cache"):
        yield f"item/{disk.get(key, raw)}", disk.fetch(mode, filename, value, read=False)
