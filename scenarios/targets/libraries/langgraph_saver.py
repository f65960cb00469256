"""langgraph-checkpoint-sqlite, from PyPI: the checkpoints of an agent's graph, saved by `SqliteSaver`.

Its README promises "LangGraph state persistence backed by SQLite for local development, testing, or lightweight
deployments", and its documentation that it "does not scale to multiple threads"
(https://reference.langchain.com/python/langgraph.checkpoint.sqlite).

Not covered: several threads, its `SqliteStore`, and `AsyncSqliteSaver`, which has a target in ``docs/field``.
"""

import sqlite3
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.target import Action, Configuration, Environment, View
from tornpage.scenarios.targets.libraries.support import ShortTarget

WRITES: Final = "SELECT thread_id, checkpoint_id, task_id, channel, type, value FROM writes ORDER BY task_id, idx"
_LARGE: Final = "x" * 6_000


def config_of(thread: str, checkpoint: str | None = None) -> Any:
    """langgraph's name of a thread, or of one checkpoint of it."""
    given = {"thread_id": thread, "checkpoint_ns": ""}
    return {"configurable": given | ({"checkpoint_id": checkpoint} if checkpoint else {})}


def checkpoint_of(id: str, value: str) -> Any:  # noqa: A002 - its name there
    """A checkpoint with one value; the time of day is left out."""
    made: Any = empty_checkpoint() | {"id": id, "ts": "", "channel_values": {"value": value}}
    return made


class Saver:
    """A saver on a connection of its own, created as its documentation shows."""

    def __init__(self, path: Path, connect: Any) -> None:
        self._connection = connect(path, check_same_thread=False)
        self._saver = SqliteSaver(self._connection)

    def put(self, thread: str, id: str, value: str) -> None:  # noqa: A002 - its name there
        """Save a checkpoint."""
        self._saver.put(config_of(thread), checkpoint_of(id, value), {"source": "input", "step": 1}, {})

    def put_writes(self, thread: str, id: str, task: str, values: list[str]) -> None:  # noqa: A002 - its name there
        """Save the writes of a task."""
        self._saver.put_writes(config_of(thread, id), [("value", value) for value in values], task)

    def delete_thread(self, thread: str) -> None:
        """Delete the checkpoints of a thread and their writes."""
        self._saver.delete_thread(thread)

    def all(self) -> Iterable[Any]:
        """All checkpoints."""
        found: Iterable[Any] = self._saver.list(None)
        return found

    def written(self) -> Iterable[Any]:
        """The rows of all writes, also of those that no checkpoint has: it does not list them."""
        found: Iterable[Any] = self._connection.execute(WRITES).fetchall()
        return found

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()


class Checkpoints(ShortTarget):
    """Target: langgraph's SqliteSaver, unmodified."""

    name = "langgraph"
    title = f"langgraph-checkpoint-sqlite {version('langgraph-checkpoint-sqlite')}, unmodified: SqliteSaver"
    configurations = (Configuration("wal", "FULL"),)
    depths = ("statement", "vfs")
    file = "checkpoints.sqlite"
    callers: tuple[Callers, ...] = ("processes",)
    calls = (
        Action("put", {"thread": "one", "id": "1", "value": "a"}),
        Action("put_writes", {"thread": "one", "id": "1", "task": "t", "values": ["b", _LARGE, "c"]}),
        Action("put", {"thread": "one", "id": "2", "value": _LARGE}),
        Action("put", {"thread": "two", "id": "1", "value": "d"}),
        Action("delete_thread", {"thread": "one"}),
    )
    beat = Action("put", {"thread": "heartbeat", "id": "1", "value": "e"})

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Any:  # noqa: ARG002
        """A saver; it sets WAL itself."""
        return Saver(path, environment.connect)

    def view(self, store: Saver) -> View:
        """The checkpoints that it lists."""
        seen: dict[str, Any] = {}
        for one in store.all():
            given = one.config["configurable"]
            name = f"{given['thread_id']}/{given['checkpoint_id']}"
            seen[f"checkpoint/{name}"] = one.checkpoint["channel_values"]["value"]
            for task, channel, value in one.pending_writes:
                seen.setdefault(f"writes/{name}/{task}", []).append([channel, value])
        return seen | _orphans(store.written(), seen)

    def rows(self, connection: sqlite3.Connection) -> View:
        """The rows of its tables; a write that belongs to no checkpoint is an orphan."""
        load = JsonPlusSerializer().loads_typed
        seen: dict[str, Any] = {}
        for thread, id_, kind, blob in connection.execute(
            "SELECT thread_id, checkpoint_id, type, checkpoint FROM checkpoints"
        ):
            seen[f"checkpoint/{thread}/{id_}"] = load((kind, blob))["channel_values"]["value"]
        written = connection.execute(WRITES).fetchall()
        for thread, id_, task, channel, kind, blob in written:
            if f"checkpoint/{thread}/{id_}" in seen:
                seen.setdefault(f"writes/{thread}/{id_}/{task}", []).append([channel, load((kind, blob))])
        return seen | _orphans(written, seen)


def _orphans(written: Iterable[Any], seen: View) -> dict[str, Any]:
    """The writes whose checkpoint is not among those that are `seen`."""
    load = JsonPlusSerializer().loads_typed
    found: dict[str, Any] = {}
    for thread, id_, task, channel, kind, blob in written:
        if f"checkpoint/{thread}/{id_}" not in seen:
            found.setdefault(f"orphan/{thread}/{id_}/{task}", []).append([channel, load((kind, blob))])
    return found
