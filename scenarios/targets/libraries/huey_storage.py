"""huey's SQLite storage, from PyPI: a queue, a schedule and results in one file, without a cache over it.

Its documentation (https://huey.readthedocs.io/, the API reference) lists the methods of `BaseStorage`, which drive the
storage here; it does not mention faults. The options are in the signature of `SqliteStorage`: `fsync`, a
`journal_mode`, WAL by default, and the busy timeout of 5 seconds.

Not covered: the consumer with its threads, locks and counters, which no view shows.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from unittest import mock

import huey
import huey.storage
from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from tornpage.scenarios.model.target import Action, Configuration, Environment, Session, Target, View
from tornpage.scenarios.targets.libraries.support import VirtualTime, has_table, require_known

_CALLS: Final = frozenset({
    "add_to_schedule", "dequeue", "enqueue", "flush_queue", "pop_data", "put_data", "put_if_empty", "read_schedule",
})  # fmt: skip
_QUEUE: Final = "huey"


class HueySession:
    """One open `huey.storage.SqliteStorage`."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        self._time = VirtualTime(environment)
        with self._at_work():
            self._storage = huey.storage.SqliteStorage(
                _QUEUE,
                str(directory / "huey.db"),
                journal_mode=configuration.journal_mode,
                fsync=configuration.synchronous == "FULL",
            )

    def call(self, action: Action) -> None:
        """Make one call of the storage's interface; data is text here, and bytes there."""
        require_known(action, _CALLS)
        with self._at_work():
            getattr(self._storage, action.name)(**{name: _given(name, value) for name, value in action.args.items()})

    def live_view(self) -> View:
        """The queue and the schedule in their order, and the results, from the storage."""
        with self._at_work():
            storage = self._storage
            return _view(storage.enqueued_items(), storage.scheduled_items(), storage.result_items())

    def outcome_of(self, error: Exception) -> str | None:  # noqa: ARG002 - the protocol's shape
        """The library reports nothing about the change."""
        return None

    def self_check(self) -> None:
        """There is no memory to check."""

    def close(self) -> None:
        """Close the storage's connection."""
        self._storage.close()

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        with mock.patch.object(huey.storage, "time", self._time):
            yield


class Huey(Target):
    """Target: huey.storage.SqliteStorage, unmodified."""

    name = "huey"
    title = f"huey {huey.__version__}, unmodified: a task queue's SQLite storage"
    configurations: tuple[Configuration, ...] = (
        Configuration("wal", "FULL"),  # its own default: fsync is left to SQLite, and SQLite's is FULL
        Configuration("delete", "FULL"),
        Configuration("wal", "OFF"),  # fsync=False
    )
    # It begins each change with BEGIN EXCLUSIVE, so no COMMIT can be BUSY, which the statement depth would inject.
    depths: tuple[str, ...] = ("vfs",)
    unpromised: Mapping[str, str] = {}

    def workload(self) -> tuple[Action, ...]:
        """Tasks, a schedule and results come and go."""
        return (
            Action("enqueue", {"data": "alpha"}),
            Action("enqueue", {"data": "urgent", "priority": 5}),
            Action("add_to_schedule", {"data": "later", "ts": 1_800_000_000}),
            Action("put_data", {"key": "result", "value": "first"}),
            Action("put_data", {"key": "result", "value": "y" * 6_000}),
            Action("put_if_empty", {"key": "lock", "value": "held"}),
            Action("dequeue"),
            Action("read_schedule", {"ts": 1_900_000_000}),
            Action("pop_data", {"key": "result"}),
            Action("flush_queue"),
        )

    def actions(self, view: View) -> SearchStrategy[Action]:
        """Any change; a task's data is drawn only while no other task has it."""
        key = strategies.sampled_from(["red", "green"])
        value = strategies.sampled_from(["1", "2", "y" * 6_000])
        calls = [
            strategies.just(Action("dequeue")),
            strategies.builds(lambda ts: Action("read_schedule", {"ts": ts}), strategies.sampled_from([15, 25])),
            strategies.builds(lambda k: Action("pop_data", {"key": k}), key),
            strategies.builds(
                lambda name, k, v: Action(name, {"key": k, "value": v}),
                strategies.sampled_from(["put_data", "put_if_empty"]), key, value,
            ),
        ]  # fmt: skip
        if free := [one for one in ("alpha", "beta", "gamma") if f"task/{one}" not in view]:
            calls.append(
                strategies.builds(
                    lambda data, priority: Action("enqueue", {"data": data, "priority": priority}),
                    strategies.sampled_from(free), strategies.sampled_from([0, 5]),
                )
            )  # fmt: skip
        if free := [one for one in ("soon", "later") if f"scheduled/{one}" not in view]:
            calls.append(
                strategies.builds(
                    lambda data, ts: Action("add_to_schedule", {"data": data, "ts": ts}),
                    strategies.sampled_from(free), strategies.sampled_from([10, 20]),
                )
            )  # fmt: skip
        return strategies.one_of(calls)

    def heartbeat(self) -> Action:
        """One more result."""
        return Action("put_data", {"key": "heartbeat", "value": "1"})

    def database(self, directory: Path) -> Path:
        """The given file."""
        return directory / "huey.db"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the storage."""
        return HueySession(directory, configuration, environment)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows of its tables."""
        if not has_table(connection, "task"):
            return {}
        tasks = connection.execute("SELECT data FROM task WHERE queue = ? ORDER BY priority DESC, id", (_QUEUE,))
        scheduled = connection.execute("SELECT data FROM schedule WHERE queue = ? ORDER BY timestamp", (_QUEUE,))
        results = connection.execute("SELECT key, value FROM kv WHERE queue = ?", (_QUEUE,))
        return _view([data for (data,) in tasks], [data for (data,) in scheduled], dict(results.fetchall()))


def _given(name: str, value: Any) -> Any:
    """An argument in the storage's form."""
    if name in ("data", "value"):
        return str(value).encode()
    return datetime.fromtimestamp(value, UTC) if name == "ts" else value


def _view(tasks: list[bytes], scheduled: list[bytes], results: dict[str, bytes]) -> View:
    """Each task with its place in the queue, each scheduled one with its place, each result."""
    return {
        **{f"task/{data.decode()}": place for place, data in enumerate(tasks)},
        **{f"scheduled/{data.decode()}": place for place, data in enumerate(scheduled)},
        **{f"result/{key}": value.decode() for key, value in results.items()},
    }
