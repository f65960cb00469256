"""litequeue, from PyPI: a queue of messages in one SQLite file, without a cache over it.

Its promises are in its README (https://github.com/litements/litequeue): messages are persistent, and a popped message
is locked until it is marked as done or failed. It sets WAL and NORMAL itself, so a power cut may lose the newest
changes. Two lines of versions are driven here: 0.9 (the newest for Python 3.11), and those from 0.10 on, which need
Python 3.12, identify each delivery by a claim, and read on ten connections of their own.

Its message ids are random; here they come from the clock and a counter, so that runs can be repeated.

Not covered: several threads, `maxsize`, and ``vacuum``.
"""

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from unittest import mock

import litequeue
from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, Session, Target, View
from tornpage.scenarios.targets.libraries.support import VirtualTime, has_table, require_known

_CALLS: Final = frozenset({"done", "mark_failed", "pop", "prune", "put", "retry"})
_OF_A_MESSAGE: Final = frozenset({"done", "mark_failed", "retry"})
# Of this process: the same message may be put twice at the same time, as after a crash.
_numbers = itertools.count()
_READY, _LOCKED, _DONE, _FAILED = range(4)


class LiteQueueSession:
    """One open `litequeue.LiteQueue`."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:  # noqa: ARG002
        # The library offers no choice of a configuration.
        self._time = VirtualTime(environment)
        with self._at_work():
            self._queue = litequeue.LiteQueue(str(directory / "queue.sqlite3"))

    def call(self, action: Action) -> None:
        """Make one call of the queue's interface; a message is named by its data here, and by its id there."""
        require_known(action, _CALLS)
        with self._at_work():
            if action.name in _OF_A_MESSAGE:
                self._change(action.name, **action.args)
            else:
                getattr(self._queue, action.name)(**action.args)

    def _change(self, name: str, data: str) -> None:
        row = self._ids("WHERE data = ?", data)
        # Another caller may have removed it since.
        message = self._queue.get(row[0]) if row else None
        if message is None:
            raise Refused(f"no message {data!r}")
        claim = {"claim_id": message.claim_id} if hasattr(message, "claim_id") else {}
        getattr(self._queue, name)(message.message_id, **claim)

    def live_view(self) -> View:
        """Every message, read from the queue by its id; the ids come from SQL, since the queue does not list them."""
        with self._at_work():
            return _view(self._queue.get(identity) for identity in self._ids("ORDER BY message_id"))

    def _ids(self, which: str, *arguments: str) -> list[str]:
        found = self._queue.conn.execute(f"SELECT message_id FROM Queue {which}", arguments)  # noqa: S608 - no input
        return [identity for (identity,) in found.fetchall()]

    def outcome_of(self, error: Exception) -> str | None:  # noqa: ARG002 - the protocol's shape
        """The library reports nothing about the change."""
        return None

    def self_check(self) -> None:
        """There is no memory to check."""

    def close(self) -> None:
        """Close the queue."""
        self._queue.close()

    def _new_id(self) -> str:
        return f"{self._time.time_ns():020}-{next(_numbers):012}"

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        with (
            mock.patch.object(litequeue, "time_ns", self._time.time_ns),
            mock.patch.object(litequeue, "uuid7", self._new_id),
        ):
            yield


class LiteQueue(Target):
    """Target: litequeue.LiteQueue, unmodified."""

    name = "litequeue"
    title = f"litequeue {version('litequeue')}, unmodified: a queue on SQLite"
    # It sets both itself.
    configurations: tuple[Configuration, ...] = (Configuration("wal", "NORMAL"),)
    # With WAL no COMMIT can be BUSY, which the statement depth would inject.
    depths: tuple[str, ...] = ("vfs",)
    unpromised: Mapping[str, str] = {}
    # The harness replaces its random ids, for the whole process at a time.
    callers: tuple[Callers, ...] = ("processes",)

    def workload(self) -> tuple[Action, ...]:
        """Messages through every state."""
        return (
            Action("put", {"data": "alpha"}),
            Action("put", {"data": "beta" * 1_500}),
            Action("put", {"data": "gamma"}),
            Action("pop"),
            Action("done", {"data": "alpha"}),
            Action("pop"),
            Action("mark_failed", {"data": "beta" * 1_500}),
            Action("retry", {"data": "beta" * 1_500}),
            Action("prune"),
            Action("pop"),
        )

    def actions(self, view: View) -> SearchStrategy[Action]:
        """New messages while there is none with that data, and the allowed changes of locked ones."""
        calls = [strategies.sampled_from([Action("pop"), Action("prune")])]
        if free := [one for one in ("alpha", "beta", "gamma") if f"message/{one}" not in view]:
            calls.append(strategies.builds(lambda data: Action("put", {"data": data}), strategies.sampled_from(free)))
        states = {key.removeprefix("message/"): state[0] for key, state in view.items()}
        if locked := [data for data, status in states.items() if status == _LOCKED]:
            calls.append(
                strategies.builds(
                    lambda name, data: Action(name, {"data": data}),
                    strategies.sampled_from(sorted(_OF_A_MESSAGE)), strategies.sampled_from(locked),
                )
            )  # fmt: skip
        return strategies.one_of(calls)

    def heartbeat(self) -> Action:
        """One more message."""
        return Action("put", {"data": "heartbeat"})

    def database(self, directory: Path) -> Path:
        """The given file."""
        return directory / "queue.sqlite3"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the queue."""
        return LiteQueueSession(directory, configuration, environment)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows of its table."""
        if not has_table(connection, "Queue"):
            return {}
        rows = connection.execute("SELECT data, status, in_time, lock_time, done_time FROM Queue ORDER BY message_id")
        return {f"message/{data}": list(state) for data, *state in rows}


def _view(messages: Iterator[Any]) -> View:
    return {f"message/{one.data}": [int(one.status), one.in_time, one.lock_time, one.done_time] for one in messages}
