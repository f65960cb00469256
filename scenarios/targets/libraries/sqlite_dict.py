"""sqlitedict, from PyPI: a dictionary in an SQLite table, whose statements run on a thread of its own.

Its promises are in its README and docstrings (https://github.com/piskvorky/sqlitedict): committed changes are saved;
with `autocommit` each change is; a `commit` that blocks ensures that errors of earlier statements are raised before it
returns. It always sets ``synchronous=OFF``, so a power cut may lose anything. Two targets: one commits after each
change, as in the README's first example, the other has `autocommit`.

`scenarios.targets.libraries.handover` makes the thread take turns with its caller. A call that would wait forever
raises an error here, and the next read of the session's view reports it.

Not covered: several threads that use one dictionary, and values that are modified in place.
"""

import contextlib
import gc
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import sqlitedict
from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, Session, Target, View
from tornpage.scenarios.targets.libraries.handover import WaitsForEverError, by_turns, opened
from tornpage.scenarios.targets.libraries.support import has_table, require_known, silence

_CALLS: Final = frozenset({"clear", "delete", "set", "update"})
silence("sqlitedict")


class SqliteDictSession:
    """One open `sqlitedict.SqliteDict`."""

    def __init__(self, directory: Path, configuration: Configuration, *, autocommit: bool) -> None:
        # Why a call waits forever; empty if none does.
        self._stuck = ""
        self._autocommit = autocommit
        self._dict: Any = None
        with contextlib.suppress(WaitsForEverError), self._at_work():
            self._dict = opened(
                lambda: sqlitedict.SqliteDict(
                    str(directory / "dict.sqlite"),
                    autocommit=autocommit,
                    journal_mode=configuration.journal_mode.upper(),
                    outer_stack=False,
                )
            )

    def call(self, action: Action) -> None:
        """Make one change and commit it; raises `Refused` for a missing key."""
        require_known(action, _CALLS)
        try:
            with self._at_work():
                getattr(self, f"_{action.name}")(**action.args)
                if not self._autocommit:
                    self._dict.commit()
        except KeyError as error:
            raise Refused(f"no key {error}") from error

    def _set(self, key: str, value: Any) -> None:
        self._dict[key] = value

    def _delete(self, key: str) -> None:
        del self._dict[key]

    def _update(self, items: dict[str, Any]) -> None:
        self._dict.update(items)

    def _clear(self) -> None:
        self._dict.clear()

    def live_view(self) -> View:
        """Every key with its value, from the dictionary."""
        with contextlib.suppress(WaitsForEverError), self._at_work():
            return {f"item/{key}": value for key, value in self._dict.items()}
        raise Violation("still-usable-after-the-fault", f"a call waits forever: {self._stuck}")

    def outcome_of(self, error: Exception) -> str | None:  # noqa: ARG002 - the protocol's shape
        """The library reports nothing about the change."""
        return None

    def self_check(self) -> None:
        """There is no memory to check."""

    def close(self) -> None:
        """Close the dictionary; one that would wait forever is dropped, as its caller's process would have to be."""
        closing, self._dict = self._dict, None
        if not self._stuck:
            with self._at_work():
                closing.close()
            return
        # A Python connection refers to itself, and this one was not closed.
        del closing
        gc.collect(1)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """One call of the library; raises `WaitsForEverError` if it would not return, and on each later call."""
        if self._stuck:
            raise WaitsForEverError(self._stuck)
        with by_turns() as ended:
            try:
                yield
            except WaitsForEverError:
                why = ended[-1] if ended else "without a reported reason"
                self._stuck = f"the thread that executes its statements has ended ({why})"
                raise


class SqliteDict(Target):
    """Target: sqlitedict.SqliteDict, unmodified, with a commit after each change."""

    name = "sqlitedict"
    title = f"sqlitedict {sqlitedict.__version__}, unmodified: a dictionary on SQLite, commit() after each change"
    # It leaves the synchronous level at OFF, whatever the caller sets.
    configurations: tuple[Configuration, ...] = (
        Configuration("delete", "OFF"),  # its own default
        Configuration("wal", "OFF"),
    )
    depths: tuple[str, ...] = ("vfs",)  # it takes no connection factory
    # Threads share one object, whose own thread has the connection; its README does not mention processes, and that
    # thread ends permanently after a "database is locked" error.
    callers: tuple[Callers, ...] = ()
    unpromised: Mapping[str, str] = {}
    autocommit = False

    def workload(self) -> tuple[Action, ...]:
        """Keys are set, replaced, set by the many, deleted, and all deleted."""
        calls = (
            Action("set", {"key": "alpha", "value": 1}),
            Action("set", {"key": "beta", "value": "x" * 6_000}),
            Action("set", {"key": "alpha", "value": 2}),
            Action("update", {"items": {"gamma": 3, "delta": "y" * 6_000}}),
            Action("delete", {"key": "beta"}),
            Action("clear"),
        )
        return tuple(one for one in calls if one.name in self._names())

    def actions(self, view: View) -> SearchStrategy[Action]:  # noqa: ARG002 - every call makes sense at any time
        """Any change to one of three keys."""
        key = strategies.sampled_from(["alpha", "beta", "gamma"])
        value = strategies.sampled_from([1, 2, "x" * 6_000])
        calls: dict[str, SearchStrategy[Action]] = {
            "set": strategies.builds(lambda k, v: Action("set", {"key": k, "value": v}), key, value),
            "delete": strategies.builds(lambda k: Action("delete", {"key": k}), key),
            "update": strategies.builds(
                lambda items: Action("update", {"items": items}),
                strategies.dictionaries(key, value, min_size=1, max_size=3),
            ),
            "clear": strategies.just(Action("clear")),
        }
        return strategies.one_of([calls[name] for name in self._names()])

    def _names(self) -> list[str]:
        # With autocommit `update` commits each of its items separately.
        return ["set", "delete", "clear"] if self.autocommit else ["set", "delete", "update", "clear"]

    def heartbeat(self) -> Action:
        """One more key."""
        return Action("set", {"key": "heartbeat", "value": 1})

    def database(self, directory: Path) -> Path:
        """The given file."""
        return directory / "dict.sqlite"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:  # noqa: ARG002
        """Open the dictionary; it has no clock."""
        return SqliteDictSession(directory, configuration, autocommit=self.autocommit)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows of its table, decoded in its own way."""
        if not has_table(connection, "unnamed"):
            return {}
        rows = connection.execute("SELECT key, value FROM unnamed")
        return {f"item/{key}": sqlitedict.decode(value) for key, value in rows}


class SqliteDictAutocommit(SqliteDict):
    """Target: the same with `autocommit`."""

    name = "sqlitedict-autocommit"
    title = f"sqlitedict {sqlitedict.__version__}, unmodified: a dictionary on SQLite, with autocommit"
    autocommit = True
