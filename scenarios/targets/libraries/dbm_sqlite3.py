"""CPython's own ``dbm.sqlite3`` (3.13 and newer): keys and values as bytes in one table, without a cache over it.

Its promises are in the library reference (https://docs.python.org/3/library/dbm.html#module-dbm.sqlite3): a persistent
mapping with the methods of a dictionary. It sets WAL itself and leaves the synchronous level to SQLite.

Not covered: methods of `collections.abc.MutableMapping` with several changes (``update``, ``clear``): each change is
separate.
"""

import importlib
import platform
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, Session, Target, View
from tornpage.scenarios.targets.libraries.support import has_table, require_known

# The stubs of the oldest Python do not have it.
_dbm: Any = importlib.import_module("dbm.sqlite3")
_CALLS: Final = frozenset({"delete", "pop", "set", "setdefault"})


class DbmSession:
    """One open ``dbm.sqlite3`` database."""

    def __init__(self, directory: Path) -> None:
        self._mapping = _dbm.open(directory / "mapping.db", "c")

    def call(self, action: Action) -> None:
        """Make one change to the mapping; raises `Refused` for a missing key."""
        require_known(action, _CALLS)
        try:
            self._change(action.name, **action.args)
        except KeyError as error:
            raise Refused(f"no key {error}") from error

    def _change(self, name: str, key: str, value: str | None = None) -> None:
        if name == "set":
            self._mapping[key] = value
        elif name == "setdefault":
            self._mapping.setdefault(key, value)
        elif name == "pop":
            self._mapping.pop(key)
        else:
            del self._mapping[key]

    def live_view(self) -> View:
        """Every key with its value, from the mapping."""
        return {_key(key): _text(self._mapping[key]) for key in self._mapping.keys()}  # noqa: SIM118 - a list of its own

    def outcome_of(self, error: Exception) -> str | None:  # noqa: ARG002 - the protocol's shape
        """The library reports nothing about the change."""
        return None

    def self_check(self) -> None:
        """There is no memory to check."""

    def close(self) -> None:
        """Close the mapping."""
        self._mapping.close()


class DbmSqlite3(Target):
    """Target: dbm.sqlite3 of this Python, unmodified."""

    name = "dbm-sqlite3"
    title = f"dbm.sqlite3 of Python {platform.python_version()}, unmodified: a mapping on SQLite"
    # It sets WAL itself.
    configurations: tuple[Configuration, ...] = (Configuration("wal", "FULL"),)
    depths: tuple[str, ...] = ("vfs",)  # it takes no connection factory
    unpromised: Mapping[str, str] = {}

    def workload(self) -> tuple[Action, ...]:
        """Keys are set, replaced and deleted."""
        return (
            Action("set", {"key": "alpha", "value": "1"}),
            Action("set", {"key": "beta", "value": "x" * 6_000}),
            Action("set", {"key": "alpha", "value": "2"}),
            Action("setdefault", {"key": "gamma", "value": "3"}),
            Action("pop", {"key": "gamma"}),
            Action("delete", {"key": "beta"}),
        )

    def actions(self, view: View) -> SearchStrategy[Action]:  # noqa: ARG002 - every call makes sense at any time
        """Any change to one of three keys."""
        key = strategies.sampled_from(["alpha", "beta", "gamma"])
        value = strategies.sampled_from(["1", "2", "x" * 6_000])
        sets, removes = strategies.sampled_from(["set", "setdefault"]), strategies.sampled_from(["delete", "pop"])
        return strategies.one_of(
            strategies.builds(lambda name, k, v: Action(name, {"key": k, "value": v}), sets, key, value),
            strategies.builds(lambda name, k: Action(name, {"key": k}), removes, key),
        )

    def heartbeat(self) -> Action:
        """One more key."""
        return Action("set", {"key": "heartbeat", "value": "1"})

    def database(self, directory: Path) -> Path:
        """The given file."""
        return directory / "mapping.db"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:  # noqa: ARG002
        """Open the mapping; there is nothing to configure, and it has no clock."""
        return DbmSession(directory)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows of its table."""
        if not has_table(connection, "Dict"):
            return {}
        return {_key(key): _text(value) for key, value in connection.execute("SELECT key, value FROM Dict")}


def _key(key: bytes) -> str:
    return f"item/{key.decode()}"


def _text(value: bytes) -> str:
    return value.decode()
